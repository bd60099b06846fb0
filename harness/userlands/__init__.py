"""Distribution roots whose podman and systemd a session uses."""
