"""Recovery of a damaged database, as far as it can be read. Works on scratch copies only."""
