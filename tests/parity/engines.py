"""vLLM engines in this process, stepped by hand and watched from inside."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vllm_diffusion.metrics import decode_metrics

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput

    from tests.parity.cases import Case

PAGE = 32  # the smallest KV page of vLLM's CPU attention, so that short prompts fill some


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Keep vLLM from collecting garbage, which it does nine times for an engine.

    Each time looks at all that is imported, unless that is frozen, as ``tests.preloaded`` does;
    vLLM would freeze closed engines as well, and thaw everything.
    """
    import tests.preloaded  # noqa: F401

    with pytest.MonkeyPatch.context() as patch:
        for name in ("collect", "freeze", "unfreeze"):
            patch.setattr(gc, name, lambda *_: 0)
        yield


@dataclass(frozen=True)
class Outcome:
    """What an engine made of one request."""

    tokens: list[int]
    steps: int
    prefills: int
    """Forwards of prompt blocks alone."""
    cached: int
    """Prompt tokens that came from the prefix cache."""
    reason: str

    @classmethod
    def of(cls, output: RequestOutput, completion: CompletionOutput) -> Outcome:
        metrics = decode_metrics(completion)
        return cls(
            tokens=list(completion.token_ids),
            steps=metrics.num_denoising_steps,
            prefills=metrics.num_prefill_forwards,
            cached=output.num_cached_tokens,
            reason=completion.finish_reason,
        )


class Engine:
    """One engine with its core, scheduler and (for one rank) worker in this process."""

    def __init__(self, folder: Path, **options: Any) -> None:
        from vllm import LLM

        settings: dict[str, Any] = {
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 512,
            "max_num_seqs": 8,
            "block_size": PAGE,
            "kv_cache_memory_bytes": 1 << 24,
            "skip_tokenizer_init": True,
        }
        with pytest.MonkeyPatch.context() as patch, without_collections():
            patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            self.llm = LLM(str(folder), **settings | options)
        self.engine = self.llm.llm_engine
        self.core = self.engine.engine_core.engine_core
        self.scheduler = self.core.scheduler
        self.num_forwards = 0
        self.preempted: list[str] = []
        self.finished: dict[str, RequestOutput] = {}
        self._watch()

    def _watch(self) -> None:
        preempt = self.scheduler._preempt_request

        def counting_preempt(request: Any, *args: Any, **kwargs: Any) -> Any:
            # vLLM appends a random suffix to the name that it was given.
            self.preempted.append(request.request_id.rpartition("-")[0])
            return preempt(request, *args, **kwargs)

        def count_forward(*_: Any) -> None:
            self.num_forwards += 1

        self.scheduler._preempt_request = counting_preempt
        if hasattr(self.core.model_executor, "driver_worker"):
            model = self.core.model_executor.driver_worker.worker.get_model()
            model.register_forward_pre_hook(count_forward)

    @property
    def num_free_pages(self) -> int:
        """KV pages that no request holds; cached ones count as free."""
        pages: int = self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        return pages

    def fresh(self) -> Engine:
        """Forget what earlier tests left behind, also those that failed."""
        left = list(self.engine.output_processor.request_states)
        self.engine.abort_request(left, internal=True)
        self.drain()
        assert self.engine.reset_prefix_cache()
        self.finished.clear()
        self.preempted.clear()
        self.num_forwards = 0
        return self

    def add(
        self,
        name: str,
        prompt: Sequence[int],
        *,
        salt: str | None = None,
        priority: int = 0,
        bad_words_ids: Sequence[Sequence[int]] = (),
        lora: Any = None,
        **sampling: Any,
    ) -> None:
        """Queue a request; ``sampling`` goes to ``SamplingParams``.

        ``bad_words_ids`` stands in for what a tokenizer would make of ``bad_words``; ``lora`` is a
        ``LoRARequest``.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        tokens: dict[str, Any] = {"prompt_token_ids": list(prompt)}
        if salt is not None:
            tokens["cache_salt"] = salt
        defaults = {"detokenize": False, "output_kind": RequestOutputKind.FINAL_ONLY}
        params = SamplingParams(**defaults | sampling)
        if bad_words_ids:
            params._bad_words_token_ids = [list(word) for word in bad_words_ids]
        self.engine.add_request(name, tokens, params, lora_request=lora, priority=priority)

    def step(self) -> None:
        """One step of the engine; whole requests that it completes go to ``finished``."""
        for output in self.engine.step():
            if output.finished:
                self.finished[output.request_id] = output

    def drain(self) -> None:
        """Step until nothing is left to do."""
        while self.engine.has_unfinished_requests():
            self.step()

    def outcomes(self, name: str) -> list[Outcome]:
        """The completions of a finished request."""
        output = self.finished[name]
        return [Outcome.of(output, completion) for completion in output.outputs]

    def run(self, cases: Sequence[Case], *, every: int = 0) -> list[Outcome]:
        """Serve all cases: at once, or a new one ``every`` so many steps."""
        for number, case in enumerate(cases):
            self.add(str(number), case.prompt, **case.arguments())
            for _ in range(every):
                self.step()
        self.drain()
        return [self.outcomes(str(number))[0] for number in range(len(cases))]

    def run_alone(self, cases: Sequence[Case]) -> list[Outcome]:
        """Serve one case after the other."""
        return [self.run([case])[0] for case in cases]


class EnginePool:
    """Engines by checkpoint and options, kept while the suite runs."""

    def __init__(self, checkpoint: Callable[[int], Path]) -> None:
        self.checkpoint = checkpoint
        self.open: dict[tuple[Any, ...], Engine] = {}

    def __call__(self, model: int | Path, **options: Any) -> Engine:
        """The engine for a block size, or for a folder; with an empty prefix cache."""
        key = (model, repr(sorted(options.items())))
        if key not in self.open:
            folder = self.checkpoint(model) if isinstance(model, int) else model
            self.open[key] = Engine(folder, **options)
        return self.open[key].fresh()

    def close(self) -> None:
        """Shut all down: those of one rank share this process's parallel groups."""
        from vllm.distributed import cleanup_dist_env_and_memory

        with without_collections():
            for engine in self.open.values():
                if engine.engine.vllm_config.parallel_config.world_size > 1:
                    engine.engine.engine_core.shutdown()
            self.open.clear()
            cleanup_dist_env_and_memory()
        gc.collect()
