"""Patches on modules that only a worker loads; the model state applies them."""

from __future__ import annotations

from typing import Any

from vllm_diffusion.compat.checks import Calls, Has, Takes
from vllm_diffusion.compat.contact import patch
from vllm_diffusion.patching import take

RUNNER = "vllm.v1.worker.gpu.model_runner.GPUModelRunner"
STAGES = (
    "receive",
    "broadcast",
    "broadcast_drafts",
    "get_prev_sampled_outputs",
    "on_req_idx_freed",
    "relay_aux_hidden_states",
)
"""What the runner calls of the handler that a pipeline's ranks exchange outcomes with."""


@patch(
    f"{RUNNER}.execute_model",
    f"{RUNNER}.sample_tokens",
    breaks="The worker names the target; a step that samples itself is sampled twice",
    checks=(
        Takes(f"{RUNNER}.execute_model", ("dummy_run",), in_order=False),
        Takes(f"{RUNNER}.sample_tokens", ("grammar_output",)),
    ),
)
def sample_in_the_same_call() -> None:
    """One call of the worker a step instead of two.

    Without it the engine core calls the worker once for the forward and once
    more for the denoising step, so that it can compute a grammar's bitmask in
    between; this package's worker follows grammars itself. Acts in the worker,
    on this package's model state alone, which applies it; not with a pipeline,
    whose ranks take both calls. Remove when vLLM lets a model say that it needs
    nothing in between.
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
    CPUs; products are made in cpu/adapters.py, an adapter at a time. Remove when vLLM 0.33, whose
    products in torch leave out rows of index -1, is the oldest that is supported.
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


@patch(
    f"{RUNNER}.execute_model",
    f"{RUNNER}.pp_handler",
    "vllm.v1.worker.gpu.pp_utils.PPHandler.broadcast_group",
    "vllm.v1.worker.gpu.pp_utils.PPHandler.last_rank",
    breaks="The first step fails, or the ranks of a pipeline hold different canvases: wrong tokens",
    checks=(
        Takes(f"{RUNNER}.execute_model", ("scheduler_output",)),
        *(Calls(RUNNER, f"self.pp_handler.{name}") for name in STAGES),
        Takes("vllm.v1.worker.gpu.pp_utils.PPHandler.receive", ("input_batch",)),
        Takes(
            "vllm.v1.worker.gpu.pp_utils.PPHandler.broadcast",
            ("sampled_token_ids", "num_sampled", "num_rejected", "input_batch"),
        ),
        Calls(f"{RUNNER}.sample_tokens", "self.postprocess_num_computed_tokens"),
        Takes(
            f"{RUNNER}.postprocess_sampled",
            ("idx_mapping", "sampled_tokens", "num_sampled", "num_rejected", "query_start_loc"),
        ),
    ),
)
def canvases_in_a_pipeline() -> None:
    """Ranks of a pipeline get the canvases of the last one.

    Without it they get what an autoregressive model emits: a canvas that is not
    finished stays as it was on them, and one that a request's only token is in
    never comes. Acts in the worker, on this package's model state alone: its
    ``begin_step`` is called before each step, and puts `worker.stages` in the
    place of the runner's handler. Remove when vLLM lets a model state say what
    a pipeline's ranks exchange.
    """
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    original = take(GPUModelRunner, "execute_model")

    def execute_model(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        if begin_step := getattr(self.model_state, "begin_step", None):
            is_dummy = kwargs.get("dummy_run", False)
            begin_step(self, {} if is_dummy else scheduler_output.num_scheduled_tokens)
        return original(self, scheduler_output, *args, **kwargs)

    GPUModelRunner.execute_model = execute_model


@patch(
    f"{RUNNER}.execute_model",
    f"{RUNNER}.sample_tokens",
    "vllm.distributed.parallel_state.get_pp_group",
    "vllm.distributed.parallel_state.get_tp_group",
    breaks="A step that fails on a rank whose answer nobody reads is waited for: clients hang",
    checks=(
        Calls(
            "vllm.v1.executor.multiproc_executor.WorkerProc.worker_main", "worker.worker_busy_loop"
        ),
        Has("vllm.distributed.parallel_state.GroupCoordinator", ("is_first_rank", "is_last_rank")),
    ),
)
def failed_ranks_end() -> None:
    """A rank whose answer nobody reads ends when a step fails on it.

    Without it the engine core waits for the answer of the one rank that it
    reads, which waits for the rank that has failed, and clients hang. Acts in
    the worker processes and Ray actors of vLLM's executors, on this package's
    model state alone: the executor sees them end, and the engine says so. Remove
    when vLLM's executor reads failures of every rank.
    """
    from vllm.distributed.parallel_state import get_pp_group, get_tp_group
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    from vllm_diffusion.isolation.lifetime import end_after_failure

    def ending(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(self, *args, **kwargs)
            except Exception:
                is_read = get_pp_group().is_last_rank and get_tp_group().is_first_rank
                if not is_read and hasattr(self.model_state, "begin_step"):
                    end_after_failure()
                raise

        return call

    for name in ("execute_model", "sample_tokens"):
        setattr(GPUModelRunner, name, ending(take(GPUModelRunner, name)))


@patch(
    f"{RUNNER}.sample_tokens",
    "vllm.v1.outputs.ModelRunnerOutput",
    breaks="Watched requests have no frames",
    checks=(
        Takes(f"{RUNNER}.sample_tokens", ("grammar_output",)),
        Calls(f"{RUNNER}.sample_tokens", "AsyncOutput"),
        Calls(
            "vllm.v1.worker.gpu.async_utils.AsyncOutput.get_output", "self.copy_event.synchronize"
        ),
    ),
)
def frames_with_outputs() -> None:
    """A step's frames travel with its tokens.

    Without it what a watched step did never leaves the worker: vLLM's output of a step has no
    place for a model's own. Acts in the worker, on this package's model state alone, and only
    after a step that somebody watches: the copies to the host were begun before those of the
    tokens, so they are done when those are. Remove when a model state may add to a step's output.
    """
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    from vllm_diffusion.frames import KEY

    original = take(GPUModelRunner, "sample_tokens")

    def sample_tokens(self: Any, grammar_output: Any) -> Any:
        result = original(self, grammar_output)
        take_frames = getattr(self.model_state, "take_frames", None)
        if result is not None and take_frames is not None and (taken := take_frames()) is not None:
            setattr(getattr(result, "model_runner_output", result), KEY, taken)
        return result

    GPUModelRunner.sample_tokens = sample_tokens
