"""Counters of block diffusion on ``/metrics``, beside vLLM's ``vllm:diffusion_*``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import prometheus_client
from vllm.v1.spec_decode.metrics import SpecDecodingProm, SpecDecodingStats

PREFILL, DENOISE = "prefill", "denoise"
RESULTS = ("valid", "invalid", "unchecked")


class DiffusionProm(SpecDecodingProm):
    """vLLM's recorder of the diffusion counters, and what it does not count.

    The extra metrics come into being with the first stats of a model of this
    package, so that no other model's ``/metrics`` changes.
    """

    def __init__(
        self, speculative_config: Any, labelnames: list[str], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(speculative_config, labelnames, *args, **kwargs)
        labelvalues = args[0] if args else kwargs["per_engine_labelvalues"]
        self._labelnames: list[str] = labelnames
        self._labelvalues: dict[int, list[Any]] = labelvalues
        self._metrics: tuple[Any, Any, Any, Any] | None = None
        self._num_tokens: dict[int, int] = dict.fromkeys(labelvalues, 0)
        self._num_forwards: dict[int, int] = dict.fromkeys(labelvalues, 0)

    def _create(self, canvas_length: int) -> tuple[Any, Any, Any, Any]:
        forwards = prometheus_client.Counter(
            "vllm:diffusion_num_forwards",
            "Forwards, once a request that they served: 'prefill' of prompt chunks alone, "
            "'denoise' with a canvas.",
            [*self._labelnames, "kind"],
        )
        steps = prometheus_client.Histogram(
            "vllm:diffusion_block_denoising_steps",
            "Finished blocks by the number of denoising steps that they took.",
            self._labelnames,
            buckets=list(range(1, canvas_length + 1)),
        )
        tokens_per_forward = prometheus_client.Gauge(
            "vllm:diffusion_tokens_per_forward",
            "Committed tokens over all forwards since the start.",
            self._labelnames,
            multiprocess_mode="mostrecent",
        )
        approximate = prometheus_client.Counter(
            "vllm:diffusion_num_approximate_forwards",
            "Denoising steps that reused approximate K and V, as diffusion_kv_cache had asked.",
            self._labelnames,
        )
        return forwards, steps, tokens_per_forward, approximate

    def observe(self, spec_decoding_stats: SpecDecodingStats, engine_idx: int = 0) -> None:
        super().observe(spec_decoding_stats, engine_idx)
        if not self.is_diffusion or len(spec_decoding_stats.num_draft_tokens_per_pos) != 2:
            return  # Not from this package's ledger.
        if self._metrics is None:
            self._metrics = self._create(spec_decoding_stats.num_spec_tokens)
        forwards, steps, tokens_per_forward, approximate = self._metrics
        labels = self._labelvalues[engine_idx]
        num_prefill, num_approximate = spec_decoding_stats.num_draft_tokens_per_pos
        num_denoise = spec_decoding_stats.num_drafts
        forwards.labels(*labels, PREFILL).inc(num_prefill)
        forwards.labels(*labels, DENOISE).inc(num_denoise)
        approximate.labels(*labels).inc(num_approximate)
        histogram = steps.labels(*labels)
        for index, num_blocks in enumerate(spec_decoding_stats.num_accepted_tokens_per_pos):
            for _ in range(num_blocks):
                histogram.observe(index + 1)
        self._num_tokens[engine_idx] += spec_decoding_stats.num_accepted_tokens
        self._num_forwards[engine_idx] += num_prefill + num_denoise
        if self._num_forwards[engine_idx]:
            tokens_per_forward.labels(*labels).set(
                self._num_tokens[engine_idx] / self._num_forwards[engine_idx]
            )


@lru_cache(maxsize=1)
def _checked_texts() -> Any:
    return prometheus_client.Counter(
        "vllm:diffusion_num_checked_texts",
        "Finished texts of structured output by what their check has found; 'invalid' is a defect, "
        "'unchecked' is beyond a bound.",
        ["model_name", "result"],
    )


class CheckedTexts:
    """The counter of one model's finished texts, all of whose results are there from the start."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        for result in RESULTS:
            self.count(result, 0)

    def count(self, result: str, num: int = 1) -> None:
        _checked_texts().labels(self.model_name, result).inc(num)
