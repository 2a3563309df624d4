"""A request's outputs on their way to its client: errors stay with the request they belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vllm.exceptions import GenerationError, VLLMValidationError
from vllm.logger import init_logger

from vllm_diffusion.isolation.failures import MESSAGES, PREFIX, SHUTTING_DOWN, Failure
from vllm_diffusion.server.ending import shutting_down
from vllm_diffusion.server.request_log import log_end
from vllm_diffusion.server.spans import ENDING
from vllm_diffusion.server.watching import is_frame

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput

logger = init_logger(f"vllm.{__name__}")


def error_of(output: EngineCoreOutput) -> Exception | None:
    """What the client is told where the engine has ended its request; None where it has not."""
    reason = output.stop_reason
    if not isinstance(reason, str) or not reason.startswith(PREFIX):
        return None
    message = reason[len(PREFIX) :]
    if message == SHUTTING_DOWN:
        return shutting_down()
    if message == MESSAGES[Failure.DEAD_END]:
        return VLLMValidationError(message, parameter="structured_outputs")
    return GenerationError(message)


def process_isolated(
    original: Callable[..., OutputProcessorOutput],
    processor: OutputProcessor,
    outputs: list[EngineCoreOutput],
    *args: Any,
    **kwargs: Any,
) -> OutputProcessorOutput:
    """vLLM's processing, one output at a time: an exception of one would lose all of them.

    A detokenizer, a stop string or log-probabilities that fail end their own request.
    """
    result: OutputProcessorOutput | None = None
    for output in outputs:
        state = processor.request_states.get(output.request_id)
        if is_frame(output, state.external_req_id if state is not None else None):
            continue
        told = error_of(output)
        if told is not None and state is not None and state.queue is not None:
            state.queue.put(told)
        token = ENDING.set(output)
        try:
            log_end(processor, output, state)
            one = original(processor, [output], *args, **kwargs)
        except Exception as error:
            logger.exception("The output of request %s cannot be made.", output.request_id)
            one = original(processor, [], *args, **kwargs)
            if state is not None:
                processor.abort_requests([output.request_id], internal=True)
                one.reqs_to_abort.append(output.request_id)
                if state.queue is None:
                    raise
                state.queue.put(GenerationError(f"its output cannot be made: {error!s:.200}"))
        finally:
            ENDING.reset(token)
        if result is None:
            result = one
        else:
            result.request_outputs.extend(one.request_outputs)
            result.reqs_to_abort.extend(one.reqs_to_abort)
    return result if result is not None else original(processor, [], *args, **kwargs)
