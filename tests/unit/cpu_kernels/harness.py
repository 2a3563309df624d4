"""Run a replacement and the kernel it replaces on the same arguments and compare their output."""

from __future__ import annotations

from typing import Any

import torch

from vllm_diffusion.cpu.registry import KERNELS, WORKER, Replacement, taking

from .oracle import POINTERS, Oracle, is_pointers, parameters, resolve

I32, I64, F32 = torch.int32, torch.int64, torch.float32
# Stands for the types NumPy has no arithmetic for as well: the replacements treat all but float32
# alike, and the interpreter cannot compute with bfloat16.
F16 = torch.float16


def chosen(kernel: str) -> Replacement:
    """What stands in for the kernel of this name as the installed vLLM has it."""
    replacement = taking(parameters(kernel), KERNELS[kernel])
    assert replacement is not None, f"nothing replaces {kernel} of this vLLM"
    return replacement


def run_both(
    oracle: Oracle, name: str, grid: tuple[int, ...], args: list[Any], **constexprs: Any
) -> tuple[list[Any], list[Any]]:
    """Return the arguments as the replacement and as the Triton kernel left them.

    `name` is relative to `WORKER`. An empty grid launches nothing.
    """
    kernel = WORKER + name
    ours = [_clone(argument) for argument in args]
    chosen(kernel)(*resolve(ours), **constexprs)
    if 0 in grid:
        return ours, args
    return ours, oracle.launch(kernel, grid, args, constexprs)


def check(
    oracle: Oracle,
    name: str,
    grid: tuple[int, ...],
    args: list[Any],
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    **constexprs: Any,
) -> list[Any]:
    """Assert that every argument ends up equal, bit for bit by default; return ours."""
    ours, expected = run_both(oracle, name, grid, args, **constexprs)
    for place, (actual, wanted) in enumerate(zip(ours, expected, strict=True)):
        actual_tensors = _tensors(actual)
        for actual_tensor, wanted_tensor in zip(actual_tensors, _tensors(wanted), strict=True):
            torch.testing.assert_close(
                actual_tensor,
                wanted_tensor,
                rtol=rtol,
                atol=atol,
                equal_nan=True,
                msg=lambda text, place=place: f"{name}, argument {place}: {text}",
            )
    return ours


def _clone(argument: Any) -> Any:
    if is_pointers(argument):
        return (POINTERS, [t.clone() for t in argument[1]])
    return argument.clone() if isinstance(argument, torch.Tensor) else argument


def _tensors(argument: Any) -> list[torch.Tensor]:
    if is_pointers(argument):
        return argument[1]
    return [argument] if isinstance(argument, torch.Tensor) else []
