"""The demonstration: a vendor, a web server and a till on this machine, as real processes."""
