"""Runs one script of this folder: `python -I -S -B .../harness/standalone SCRIPT [ARGUMENT...]`.

Python puts the folder that it runs first in sys.path, with -I as well.
"""

import importlib
import sys

if __name__ == "__main__":
    sys.exit(importlib.import_module(sys.argv[1]).main(*sys.argv[2:]))
