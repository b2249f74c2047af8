"""A terminal from one file: Tillkeeper, its Python, root and settings, as a setup program or a Debian package."""
