"""Parts of this machine's disks in which files do not stay as they were written, a module per system that has some."""
