"""``python -m tests.cluster.inside PID COMMAND ...``: become a command in the namespaces of PID."""

from __future__ import annotations

import os
import sys

from tests.cluster.namespaces import enter

if __name__ == "__main__":
    enter(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
