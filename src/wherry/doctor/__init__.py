"""What is wrong, and what would fit: of runs, of backends, of this machine."""
