"""What a terminal tells people about itself. Reads only."""
