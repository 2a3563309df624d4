"""Patches on modules that only a worker loads; the model state applies them."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.compat.checks import Calls, Takes
from vllm_diffusion.compat.contact import patch
from vllm_diffusion.patching import take


@patch(
    "vllm.v1.worker.gpu.model_runner.GPUModelRunner.execute_model",
    "vllm.v1.worker.gpu.model_runner.GPUModelRunner.sample_tokens",
    breaks="The worker names the target; a step that samples itself is sampled twice",
    checks=(
        Takes(
            "vllm.v1.worker.gpu.model_runner.GPUModelRunner.execute_model",
            ("dummy_run",),
            in_order=False,
        ),
        Takes("vllm.v1.worker.gpu.model_runner.GPUModelRunner.sample_tokens", ("grammar_output",)),
    ),
)
def sample_in_the_same_call() -> None:
    """One call of the worker a step instead of two.

    Without it the engine core calls the worker once for the forward and once
    more for the denoising step, so that it can compute a grammar's bitmask in
    between; this package's worker follows grammars itself. Acts in the worker,
    on this package's model state alone, which applies it. Remove when vLLM
    lets a model say that it needs nothing in between.
    """
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    original = take(GPUModelRunner, "execute_model")

    def execute_model(self: Any, *args: Any, dummy_run: bool = False, **kwargs: Any) -> Any:
        output = original(self, *args, dummy_run=dummy_run, **kwargs)
        is_ours = getattr(self.model_state, "samples_in_the_same_call", False)
        if output is None and is_ours and not dummy_run:
            return self.sample_tokens(None)
        return output

    GPUModelRunner.execute_model = execute_model


LORA_OPS = "vllm.lora.ops.torch_ops.lora_ops"
LORA_CPU = "vllm.lora.punica_wrapper.punica_cpu"
_PRODUCT = ("inputs", "lora_b_weights", "output_tensor", "lora_indices_tensor")
_PRODUCTS = {
    "bgmv_shrink": (*_PRODUCT, "scaling"),
    "bgmv_expand": (*_PRODUCT, "add_inputs"),
    "bgmv_expand_slice": (*_PRODUCT, "slice_offset", "slice_size", "add_inputs"),
}


@patch(
    *(f"{LORA_OPS}.{name}" for name in _PRODUCTS),
    breaks="The worker names the target; rows without an adapter get one's weights",
    checks=(
        *(Takes(f"{LORA_OPS}.{name}", names) for name, names in _PRODUCTS.items()),
        *(Calls(f"{LORA_OPS}.s{name[1:]}", name) for name in _PRODUCTS),
        *(Calls(LORA_CPU, name) for name in _PRODUCTS),
    ),
)
def rows_without_adapter() -> None:
    """Rows without a LoRA adapter stay as they are on CPUs, beside others that have one.

    Without it vLLM's products on CPUs take index -1, which means no adapter, as that of the last
    slot, so that plain requests get an adapter's weights. Acts in the worker of our models, on
    CPUs; products are made in cpu/adapters.py, an adapter at a time. Remove when vLLM's products
    in torch leave out rows of index -1.
    """
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu
    from vllm.platforms import current_platform

    from vllm_diffusion.cpu import adapters

    if not current_platform.is_cpu():
        return
    # The second has them under names of its own.
    for module in (lora_ops, punica_cpu):
        for name in _PRODUCTS:
            take(module, name)
            setattr(module, name, getattr(adapters, name))
