"""Probe every contact with vLLM in a folder that holds its Python files; nothing is imported of it.

    python -m scripts.probe_contacts build/compat/vllm-0.33.0/vllm   # else what is installed

The exit status is 1 when a contact has moved.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vllm_diffusion.compat import CONTACTS
from vllm_diffusion.compat.source import Source


def main(arguments: list[str]) -> int:
    """Print a line for each contact that has moved, and how many have not."""
    vllm = Source(Path(arguments[0])) if arguments else Source.installed()
    moved = {contact.name: said for contact in CONTACTS if (said := contact.probe(vllm))}
    for name, said in moved.items():
        print(f"{name}: {'; '.join(said)}")
    print(f"{len(CONTACTS) - len(moved)} of {len(CONTACTS)} contacts are where they were")
    return int(bool(moved))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
