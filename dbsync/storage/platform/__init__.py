"""The one address of dbsync for differences between operating systems and file systems."""
