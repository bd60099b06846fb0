"""What a machine can do, how that is found out, and the packages that bring it."""
