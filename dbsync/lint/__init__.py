"""`dbsync check`: examines a folder of migrations before its release."""
