"""The signed repository as a terminal sees it. The only package on a terminal that imports tuf."""
