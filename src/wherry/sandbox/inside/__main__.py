"""`python -P -s -S .../inside ENTRY FD`: run the launcher or the bare worker on the socket with descriptor FD."""

from __future__ import annotations

import importlib
import os
import sys

if __name__ == "__main__":
    entry, descriptor = sys.argv[1], int(sys.argv[2])
    # -P keeps the script's folder off sys.path. It is there only while our own modules load: what a snippet can import
    # is the standard library, and our modules by no name of their own.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    module = importlib.import_module(f"inside.{entry}")
    del sys.path[0]
    sys.argv[:] = [""]
    module.main(descriptor)
