"""HTTP. The only package that imports urllib3."""
