"""Loads the plugin where the package is not installed; installed, it has the same name."""

pytest_plugins = ["harness.plugin"]
