"""``python -m tests.cluster.prepared``: import vLLM, then become the command that is told.

A line of JSON on its input says arguments of ``vllm`` and a log file. What it starts on its own
host is forked from it. So imports, which are most of a start, go on beside the test before.
"""

from __future__ import annotations

import json
import sys

import tests.preloaded  # noqa: F401
from tests.server.forked import run_command, write_to

if __name__ == "__main__":
    line = sys.stdin.readline()
    if not line:  # no server was needed any more
        sys.exit(0)
    told = json.loads(line)
    write_to(told["log"])
    run_command(told["args"])
