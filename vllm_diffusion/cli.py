"""The command ``vllm-diffusion``; ``serve`` is vLLM's own, with this package's routes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vllm_diffusion import __version__


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="vllm-diffusion", description="Diffusion language models on stock vLLM."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="vllm serve, with this package's routes; takes its arguments",
        add_help=False,
    )
    serve.add_argument("arguments", nargs=argparse.REMAINDER)
    doctor = commands.add_parser(
        "doctor", help="versions, seams, active patches, kernels and known architectures"
    )
    doctor.add_argument("--json", action="store_true", help="a list of objects, one a row")
    check = commands.add_parser(
        "ray-check", help="what the nodes of a Ray cluster have, and what differs"
    )
    check.add_argument("--address", default="auto", help="of the cluster's head; auto: this host's")
    check.add_argument("--model", help="a checkpoint's folder, which every node must have")
    check.add_argument("--json", action="store_true", help="an object: nodes and differences")
    # Light: rich alone. What asks a server, or loads a model, is loaded when it does.
    from vllm_diffusion.terminal.commands import add

    add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when all is well."""
    said = list(sys.argv[1:] if argv is None else argv)
    if said[:1] == ["serve"]:
        # Not through argparse, which would read some of vLLM's arguments as its own.
        from vllm_diffusion.endpoints import command

        return command.run(said[1:])
    arguments = build_parser().parse_args(said)
    if arguments.command == "ray-check":
        from vllm_diffusion.cluster import check

        return check.run(arguments.address, arguments.model, as_json=arguments.json)
    if arguments.command in ("watch", "chat"):
        from vllm_diffusion.terminal import commands

        return commands.run(arguments)
    from vllm_diffusion import doctor

    return doctor.run(as_json=arguments.json)
