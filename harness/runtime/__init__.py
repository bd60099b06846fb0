"""What one run has once."""
