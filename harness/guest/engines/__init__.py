"""What boots a guest kernel."""
