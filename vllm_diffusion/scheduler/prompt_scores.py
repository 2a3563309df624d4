"""Log-probabilities of prompts, between the forward that made them and the first emitted block.

vLLM hands them on with a request's first token, and expects both from the same step. Here the
forward that ends a prompt emits nothing, so they wait. Only where prompts are read causally:
``server.sampling_fields`` refuses the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.outputs import LogprobsTensors, ModelRunnerOutput
    from vllm.v1.request import Request


class PromptScores:
    """Those of the requests that have emitted nothing yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, LogprobsTensors] = {}
        self._waiting_named: dict[str, Any] = {}

    def forget(self, request_id: str) -> None:
        """The request is gone."""
        self._waiting.pop(request_id, None)
        self._waiting_named.pop(request_id, None)

    def hold(self, output: ModelRunnerOutput, requests: dict[str, Request]) -> None:
        """Take scores out of a step's output, and put in those of the requests that emit."""
        scores_of = output.prompt_logprobs_dict
        named_of = output.prompt_token_id_logprobs_dict
        for request_id in list(scores_of):
            scores = scores_of.pop(request_id)
            if scores is not None and request_id in requests:
                # The runner scores all but the last row of the query that ends a prompt. This
                # query goes on with a canvas, so the prompt's last row is one too many.
                num = requests[request_id].num_prompt_tokens - 1
                self._waiting[request_id] = scores._replace(
                    logprob_token_ids=scores.logprob_token_ids[:num],
                    logprobs=scores.logprobs[:num],
                    selected_token_ranks=scores.selected_token_ranks[:num],
                )
        for request_id in list(named_of):
            self._waiting_named[request_id] = named_of.pop(request_id)
        if not self._waiting and not self._waiting_named:
            return
        for request_id, tokens in zip(output.req_ids, output.sampled_token_ids, strict=True):
            if tokens and request_id in self._waiting:
                scores_of[request_id] = self._waiting.pop(request_id)
            if tokens and request_id in self._waiting_named:
                named_of[request_id] = self._waiting_named.pop(request_id)
