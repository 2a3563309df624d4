"""Write the golden files anew, all or those that are named, and say what they do not cover."""

from __future__ import annotations

import sys

from tests.refusals.golden import MODULES, golden, path_of
from tests.refusals.record import GOLDEN

if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or MODULES:
        text, missing, total = golden(name)
        path_of(name).write_text(text, encoding="utf-8")
        print(f"{name}: {total - len(missing)} of {total} places that refuse", flush=True)
        for place in missing:
            print(f"  not in it: {place}", flush=True)
