"""The command line of the vendor: prints, asks, exits."""
