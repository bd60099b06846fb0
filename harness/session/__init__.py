"""The throwaway user session: its own `systemd --user`, HOME, XDG_RUNTIME_DIR, container storage and, as root, namespaces."""
