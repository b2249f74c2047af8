"""One use case per module, for the command line and the Python API. Prints nothing."""
