"""The table of replacements matches vLLM, and registering it works in a process like a worker."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from vllm_diffusion.cpu.registry import KERNELS, parameter_names

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")


@pytest.mark.parametrize("kernel", KERNELS)
def test_parameters_are_those_of_the_kernel(kernel: str) -> None:
    """Read from vLLM's source, which costs nothing; `register` asks the same of the live vLLM."""
    module, _, name = kernel.rpartition(".")
    vllm = find_spec("vllm")
    assert vllm is not None and vllm.submodule_search_locations is not None
    path = Path(vllm.submodule_search_locations[0]).joinpath(*module.split(".")[1:])
    functions = {
        node.name: node
        for node in ast.parse(path.with_suffix(".py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    expected = tuple(argument.arg for argument in functions[name].args.args)
    assert parameter_names(KERNELS[kernel]) == expected


@pytest.mark.slow
def test_registration() -> None:
    script = Path(__file__).with_name("registration.py")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
