"""The frames of one text.

from vllm import LLM
from vllm_diffusion.trace import trace

llm = LLM("examples/models/tiny-diffusion", max_model_len=1024, kv_cache_memory_bytes=1 << 28)
recorded = trace(llm, [{"role": "user", "content": "Write getters for cup, lake."}])
recorded.save("replay.html")
recorded.save("replay.gif")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_diffusion.frames import NAMES, Frame
from vllm_diffusion.server.frame_events import speller
from vllm_diffusion.server.watching import WATCHING, Channel

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

MOST_FRAMES = 1 << 20


@dataclass(frozen=True)
class Piece:
    """One position of the output after one step."""

    text: str
    state: str
    """One of ``vllm_diffusion.frames.NAMES``, or ``emitted``: in front of the canvas."""
    prob: float
    other: str
    """The most probable token that is not the one shown."""
    other_prob: float


@dataclass(frozen=True)
class Trace:
    """A text, and every step that led to it."""

    steps: list[list[Piece]]
    """The output after each step, from its first position to the end of the canvas."""
    text: str
    output: RequestOutput
    """vLLM's own, with the metrics (``vllm_diffusion.metrics.decode_metrics``)."""

    def save(self, path: str | Path) -> None:
        """Write a page (``.html``) or a moving picture (``.gif``, ``.png``).

        Raises:
            ValueError: the name ends with something else.
        """
        path = Path(path)
        if path.suffix == ".html":
            from vllm_diffusion.trace.page import page

            path.write_text(page(self), encoding="utf-8")
        elif path.suffix in (".gif", ".png"):
            from vllm_diffusion.trace.picture import save_picture

            save_picture(self, path)
        else:
            raise ValueError(f"{path.name}: a trace is saved as .html, .gif or .png")


def trace(
    llm: LLM, prompt: str | Sequence[Any], sampling_params: SamplingParams | None = None
) -> Trace:
    """Generate one text and record how it came about.

    Args:
        llm: with a diffusion model.
        prompt: a text, token ids, or the messages of a chat.
        sampling_params: of one text; the model's own defaults where it is None.

    Raises:
        ValueError: the model is not one of this package's, or there is more than one text.
    """
    if not hasattr(llm.model_config, "diffusion_plan"):
        raise ValueError("trace: this LLM() has no diffusion model")
    params = sampling_params or llm.get_default_sampling_params()
    if (params.n or 1) > 1:
        raise ValueError(f"trace: n={params.n} is not valid: one text is recorded; take n=1")
    llm.llm_engine.output_processor.isolates = True
    channel = Channel(most=MOST_FRAMES)
    token = WATCHING.set(channel)
    try:
        (output,) = _generated(llm, prompt, params)
    finally:
        WATCHING.reset(token)
        channel.close()
    frames = [frame for frame, _ in channel.take()]
    return Trace(_steps(frames, llm.get_tokenizer()), output.outputs[0].text, output)


def _generated(llm: LLM, prompt: str | Sequence[Any], params: SamplingParams) -> Any:
    if isinstance(prompt, str):
        return llm.generate([prompt], params, use_tqdm=False)
    if prompt and isinstance(prompt[0], int):
        return llm.generate([{"prompt_token_ids": list(prompt)}], params, use_tqdm=False)
    return llm.chat(list(prompt), params, use_tqdm=False)


def _steps(frames: Sequence[Frame], tokenizer: Any) -> list[list[Piece]]:
    """The whole output after each frame."""
    spell = speller(tokenizer)
    emitted: list[Piece] = []
    steps = []
    for frame in frames:
        canvas = [
            Piece(spell(token), NAMES[state], prob, spell(other), other_prob)
            for token, state, prob, other, other_prob in zip(
                frame.tokens,
                frame.states,
                frame.probs,
                frame.others,
                frame.other_probs,
                strict=True,
            )
        ]
        del emitted[frame.start :]
        steps.append([*emitted, *canvas])
        if frame.is_final:
            emitted += [Piece(p.text, "emitted", p.prob, p.other, p.other_prob) for p in canvas]
    return steps
