"""One line of log for each finished request, where ``--enable-log-requests`` asks for lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.logger import init_logger

from vllm_diffusion.counters import RequestCounts
from vllm_diffusion.metrics import DecodeMetrics, count

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput

logger = init_logger(f"vllm.{__name__}")
WANTED = "diffusion_logs_requests"
"""An attribute of the front end's output processor."""


def ask_for_lines(engine_client: Any) -> None:
    """Have the server log, if its owner has asked vLLM to log requests."""
    processor = getattr(engine_client, "output_processor", None)
    if processor is not None and getattr(engine_client, "log_requests", False):
        setattr(processor, WANTED, True)


def counts_of(output: EngineCoreOutput) -> DecodeMetrics | None:
    """How a request was decoded that ends with this output."""
    record = output.spec_decode_metrics
    counts = None if record is None else RequestCounts.decoded(record)
    return None if counts is None else count(counts)


def log_end(processor: Any, output: EngineCoreOutput, state: Any) -> None:
    """Log the end of a request, if that is wanted and this is one."""
    if not getattr(processor, WANTED, False) or output.finish_reason is None:
        return
    told = counts_of(output)
    if told is None:
        return
    logger.info(
        "Request %s has ended (%s): %d tokens of prompt, %d of text in %d forwards, %.2f tokens "
        "per forward; %d denoising steps, %d forwards of the prompt alone.",
        state.external_req_id if state is not None else output.request_id,
        str(output.finish_reason),
        state.prompt_len if state is not None else 0,
        told.num_tokens,
        told.num_forwards,
        told.tokens_per_forward,
        told.num_denoising_steps,
        told.num_prefill_forwards,
    )
