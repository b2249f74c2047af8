"""The signed repository as a terminal sees it. The only package of a terminal that imports tuf."""
