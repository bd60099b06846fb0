"""`python3 -m harness`, which is `sah` where that script is not installed."""

import sys

from harness.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
