"""`dbsync check`: the checks of a folder of migrations before its release."""
