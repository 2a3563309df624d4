"""The command ``vllm-diffusion``. Serving itself is vLLM's own ``vllm serve``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vllm_diffusion import __version__


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="vllm-diffusion", description="Diffusion language models on stock vLLM."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser(
        "doctor", help="versions, seams, active patches, kernels and known architectures"
    )
    doctor.add_argument("--json", action="store_true", help="a list of objects, one a row")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all is well."""
    arguments = build_parser().parse_args(argv)
    assert arguments.command == "doctor"
    from vllm_diffusion import doctor

    return doctor.run(as_json=arguments.json)
