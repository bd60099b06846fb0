"""The throwaway user session: own `systemd --user`, HOME, XDG_RUNTIME_DIR, containers and, as root, namespaces."""
