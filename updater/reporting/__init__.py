"""Reports of a terminal about itself, for people. Only reads."""
