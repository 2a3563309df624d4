"""Patches on modules that only a worker loads; the model state applies them."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.compat.checks import Takes
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
