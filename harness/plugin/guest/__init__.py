"""The part of the plugin that runs tests in a guest."""
