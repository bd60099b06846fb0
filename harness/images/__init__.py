"""The image store and the base images."""
