"""What a model says of given tokens behind a text: one masked position, one forward, no new engine.

A read is a request for one token: ``max_tokens: 1``, greedy, one denoising step, with the
log-probabilities of the tokens that are asked for. What it is conditioned on is the mask group's:

- block-causal: the text, and the masks that its last block has left;
- causal context: the text alone, as the first token of a block is an autoregressive one;
- full attention: the text and as many masks as ``num_slots`` says.

A request needs no more than that step, since the tokens of the set are known beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams

from vllm_diffusion.decisions.reading import Read, Seen
from vllm_diffusion.request.params import PREFIX

if TYPE_CHECKING:
    from vllm_diffusion.request.plan import DecodePlan


def decode_fields(plan: DecodePlan) -> dict[str, Any]:
    """How a read is decoded, whatever the server's defaults: one plain step over a whole block."""
    record = plan.record
    fields: dict[str, Any] = {"max_steps": 1, "policy": "static", "threshold": 0.0}
    if record.sub_block_length is not None:
        fields["sub_block_length"] = plan.defaults.block_length
    if record.has_edits:
        fields["edit_threshold"] = 1.0
    if record.has_guidance:
        fields["guidance_scale"] = 0.0
    if record.mask_group.recomputes:
        fields["kv_cache"] = "exact"
    return {PREFIX + name: value for name, value in fields.items()}


def params_of(read: Read, plan: DecodePlan) -> SamplingParams:
    """The request that makes a read."""
    # Elsewhere masks behind the position are those of its block, whatever is asked for.
    num_slots = read.num_slots if plan.record.mask_group.recomputes else 1
    return SamplingParams(
        max_tokens=num_slots,
        temperature=0.0,
        logprob_token_ids=list(read.tokens),
        detokenize=False,
        # The first output is enough: slots that reach into a second block are never decoded.
        output_kind=RequestOutputKind.DELTA,
        extra_args=decode_fields(plan),
    )


def seen_of(output: Any, tokens: Sequence[int]) -> Seen:
    """What the first output of a request says."""
    completion = output.outputs[0]
    logs = {token: completion.logprobs[0][token].logprob for token in tokens}
    top = int(completion.token_ids[0])
    top_log = completion.logprobs[0][top].logprob
    return Seen(logs, top, output.num_cached_tokens or 0, top_log)


class Reader:
    """Reads by an engine's client; requests that nobody waits for any more are aborted.

    ``params``, ``prompt`` and ``seen`` say what a read is: here a ``Read``, which gives a ``Seen``.

    Args:
        engine: vLLM's client.
        plan: of the model.
        name: of the requests, which get a number each.
        lora: adapter, as vLLM knows it.
        salt: parts the prefix cache.
    """

    def __init__(
        self, engine: Any, plan: DecodePlan, name: str, *, lora: Any = None, salt: str | None = None
    ) -> None:
        self.engine, self.plan, self.name = engine, plan, name
        self.lora, self.salt = lora, salt

    def params(self, read: Any) -> SamplingParams:
        """The request that makes a read."""
        return params_of(read, self.plan)

    def prompt(self, read: Any) -> list[int]:
        """What stands before its canvas."""
        return list(read.prompt)

    def seen(self, output: Any, read: Any) -> Any:
        """What comes of a read, from the first output with tokens."""
        return seen_of(output, read.tokens)

    async def all(self, reads: Sequence[Any]) -> list[Any]:
        """Do all reads at once, or one before the others where they can share its pages."""
        shares = self.engine.vllm_config.cache_config.enable_prefix_caching
        num_leading = min(len(reads), 1) if shares and len(reads) > 1 else 0
        leading = [await self._one(i, read) for i, read in enumerate(reads[:num_leading])]
        tasks = [
            asyncio.ensure_future(self._one(num_leading + i, read))
            for i, read in enumerate(reads[num_leading:])
        ]
        try:
            return leading + list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, number: int, read: Any) -> Any:
        prompt = tokens_input(self.prompt(read), cache_salt=self.salt)
        outputs = self.engine.generate(
            prompt, self.params(read), f"{self.name}-{number}", lora_request=self.lora
        )
        seen: Any = None
        async with aclosing(outputs):
            async for output in outputs:
                if seen is None and output.outputs and output.outputs[0].token_ids:
                    seen = self.seen(output, read)
                if seen is not None and not output.finished:
                    break  # which aborts the request
        if seen is None:
            raise RuntimeError("a read ended without a token")
        return seen
