"""What happens next on a terminal: pure functions of values. Imports the model and nothing else."""
