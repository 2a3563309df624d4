"""Counters of block diffusion on ``/metrics``, beside vLLM's ``vllm:diffusion_*``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import prometheus_client
from vllm.v1.spec_decode.metrics import SpecDecodingProm, SpecDecodingStats

from vllm_diffusion.counters import EngineCounts

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
        counts = EngineCounts.decoded(spec_decoding_stats) if self.is_diffusion else None
        if counts is None:
            return  # Not from this package's statistics.
        if self._metrics is None:
            self._metrics = self._create(counts.canvas_length)
        forwards, steps, tokens_per_forward, approximate = self._metrics
        labels = self._labelvalues[engine_idx]
        forwards.labels(*labels, PREFILL).inc(counts.num_prefill_forwards)
        forwards.labels(*labels, DENOISE).inc(counts.num_denoising_steps)
        approximate.labels(*labels).inc(counts.num_approximate_forwards)
        histogram = steps.labels(*labels)
        for index, num_blocks in enumerate(counts.blocks_by_steps):
            for _ in range(num_blocks):
                histogram.observe(index + 1)
        self._num_tokens[engine_idx] += counts.num_tokens
        self._num_forwards[engine_idx] += counts.num_prefill_forwards + counts.num_denoising_steps
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
