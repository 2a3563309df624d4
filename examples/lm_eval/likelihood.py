"""lm-eval with one more model: completions whose log-probabilities are estimates.

    python examples/lm_eval/likelihood.py run --model diffusion-completions \\
      --tasks tiny_choice --include_path examples/lm_eval --apply_chat_template \\
      --model_args model=NAME,base_url=URL/v1/completions,tokenizer=FOLDER,likelihood=mc

The arguments are those of lm-eval's ``local-completions``, and ``likelihood`` ("chain" or "mc"),
``samples`` (of "mc"). It sends how many tokens of each text are context, so that the server scores
those behind it alone. Needs ``lm-eval[api]``, no torch.
"""

from __future__ import annotations

from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from lm_eval.models.openai_completions import LocalCompletionsAPI


@register_model("diffusion-completions")
class DiffusionCompletions(LocalCompletionsAPI):  # type: ignore[misc]
    """``local-completions`` that says how a text is scored, and from where on."""

    def __init__(
        self, likelihood: str = "chain", samples: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.xargs: dict[str, Any] = {"diffusion_likelihood": likelihood}
        if samples is not None:
            self.xargs["diffusion_likelihood_samples"] = int(samples)
        self.context_of: dict[tuple[int, ...], int] = {}

    def batch_loglikelihood_requests(self, chunks: Any) -> Any:
        """Note where each text's context ends: lm-eval does not hand that on."""
        inputs, contexts, keys = super().batch_loglikelihood_requests(chunks)
        for text, context in zip(inputs, contexts, strict=True):
            # A text that is cut at several places has no one context, and is sent without.
            if self.context_of.setdefault(tuple(text), context) != context:
                self.context_of[tuple(text)] = 0
        return inputs, contexts, keys

    def _create_payload(self, messages: Any, generate: bool = False, **kwargs: Any) -> Any:
        payload = super()._create_payload(messages, generate=generate, **kwargs)
        if generate:
            return payload
        contexts = [self.context_of.get(tuple(text), 0) for text in messages]
        # Without a context every cut is scored, which is right for each of them.
        said = {"diffusion_likelihood_context": contexts} if all(contexts) else {}
        return payload | {"vllm_xargs": self.xargs | said}


if __name__ == "__main__":
    cli_evaluate()
