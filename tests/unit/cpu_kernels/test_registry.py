"""The table of replacements matches vLLM, and registering it works in a process like a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from vllm_diffusion.cpu.registry import KERNELS, parameter_names, taking

from .oracle import parameters

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_replacement_has_the_parameters_of_the_kernel(kernel: str) -> None:
    """Read from vLLM's source, which costs nothing; `register` asks the same of the live vLLM."""
    names = [parameter_names(replacement) for replacement in KERNELS[kernel]]
    assert names.count(parameters(kernel)) == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_other_parameters_are_no_replacements(kernel: str) -> None:
    for names in map(parameter_names, KERNELS[kernel]):
        for other in (names[:-1], (*names, "new"), names[::-1]):
            assert taking(other, KERNELS[kernel]) is None


@pytest.mark.slow
def test_registration() -> None:
    script = Path(__file__).with_name("registration.py")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
