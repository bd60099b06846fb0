"""What maintainers run and users don't: `python -m tools COMMAND`. No part of the package that is installed."""
