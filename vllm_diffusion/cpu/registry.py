"""Which Triton kernel is replaced by which function, and the hook into vLLM's dispatcher."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from vllm_diffusion.cpu import block_tables, inputs, logprobs, staged_writes, update

Replacement = Callable[..., None]

WORKER = "vllm.v1.worker."

# What a served model launches, and nothing else: the sampling kernels belong to vLLM's sampler,
# which a denoising step replaces.
# Where versions of vLLM differ in a kernel's parameters there is a replacement for each.
_REPLACEMENTS: dict[str, tuple[Replacement, ...]] = {
    # Every step.
    "gpu.buffer_utils._apply_write_kernel": (staged_writes.apply_write,),
    "gpu.block_table._gather_block_tables_kernel": (
        block_tables.gather_block_tables,
        block_tables.gather_and_mask_block_tables,
    ),
    "gpu.block_table._compute_slot_mappings_kernel": (block_tables.compute_slot_mappings,),
    "gpu.input_batch._prepare_prefill_inputs_kernel": (inputs.prepare_prefill_inputs,),
    "gpu.input_batch._prepare_pos_seq_lens_kernel": (inputs.prepare_pos_seq_lens,),
    "gpu.input_batch._combine_sampled_and_draft_tokens_kernel": (
        inputs.combine_sampled_and_draft_tokens,
    ),
    "gpu.input_batch._expand_idx_mapping_kernel": (inputs.expand_idx_mapping,),
    "gpu.input_batch._post_update_kernel": (update.post_update, update.post_update_with_drafts),
    # Ranks of a pipeline.
    "gpu.input_batch._post_update_num_computed_tokens_kernel": (
        update.post_update_num_computed_tokens,
    ),
    # Log-probabilities of a prompt.
    "gpu.sample.logprob._topk_log_softmax_kernel": (logprobs.topk_log_softmax,),
    "gpu.sample.logprob._ranks_kernel": (logprobs.ranks,),
    "gpu.sample.prompt_logprob._prompt_logprobs_token_ids_kernel": (
        logprobs.prompt_logprobs_token_ids,
    ),
}

# Full name of a kernel -> what stands in for it.
KERNELS: Mapping[str, tuple[Replacement, ...]] = {
    WORKER + name: replacements for name, replacements in _REPLACEMENTS.items()
}


@cache
def register() -> None:
    """Replace every kernel of `KERNELS` in this process; a second call does nothing.

    For a worker process, before its runner is imported: ``vllm.v1.worker.cpu.shm`` swaps CUDA
    streams, events and buffers for host versions, and modules of the runner imported earlier would
    keep the originals. With a Triton that compiles for the CPU nothing is replaced.
    """
    import vllm.v1.worker.cpu.shm  # noqa: F401  (first: see above)
    from vllm.triton_utils import HAS_TRITON, triton
    from vllm.triton_utils.dispatcher import register_kernels

    if HAS_TRITON:
        return
    chosen = {name: choose(name, *replacements) for name, replacements in KERNELS.items()}
    if not hasattr(triton, "next_power_of_2"):
        # The runner's host code sizes blocks with it; vLLM's stand-in for Triton lacks it.
        triton.next_power_of_2 = next_power_of_2
    register_kernels(chosen)


def choose(name: str, *replacements: Replacement) -> Replacement:
    """Return the replacement whose parameters are those of vLLM's kernel `name`.

    Raises:
        RuntimeError: vLLM has no such kernel, or another one.
    """
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _moved(name, f"there is no module {error.name}") from error
    kernel = getattr(module, attribute, None)
    if kernel is None:
        raise _moved(name, "it does not exist")
    found = parameter_names(kernel)
    if (replacement := taking(found, replacements)) is None:
        expected = " or ".join(str(parameter_names(one)) for one in replacements)
        raise _moved(name, f"its parameters are {found}, expected {expected}")
    return replacement


def taking(
    parameters: tuple[str, ...], replacements: tuple[Replacement, ...]
) -> Replacement | None:
    """Return the replacement that has these parameters; None where there is none."""
    return next((one for one in replacements if parameter_names(one) == parameters), None)


def parameter_names(kernel: Callable[..., Any]) -> tuple[str, ...]:
    """Return the launch parameters of a kernel, without the ``**_`` of a replacement."""
    names = getattr(kernel, "arg_names", None)  # a kernel that was replaced before
    if names is not None:
        return tuple(names)
    parameters = inspect.signature(kernel).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD)


def next_power_of_2(n: int) -> int:
    """Return the smallest power of two that is at least `n`, like ``triton.next_power_of_2``."""
    return 1 << (n - 1).bit_length() if n > 0 else 0


def _moved(name: str, reason: str) -> RuntimeError:
    import vllm

    return RuntimeError(
        f"vLLM {vllm.__version__} and vllm_diffusion.cpu disagree about the kernel {name}: "
        f"{reason}. Use a vLLM version that vllm_diffusion supports, or update its replacement."
    )
