"""Patches in the front end: what diffusion counts is on ``/metrics`` and in responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_diffusion.compat.checks import Calls, Takes
from vllm_diffusion.compat.contact import patch
from vllm_diffusion.patching import take

if TYPE_CHECKING:
    from vllm.v1.metrics.stats import RequestSpecDecodeMetrics


@patch(
    "vllm.v1.metrics.loggers.PrometheusStatLogger._spec_decoding_cls",
    breaks="Start-up names the target; where vLLM no longer makes it, `/metrics` lacks forwards "
    "by kind",
    checks=(
        Calls("vllm.v1.metrics.loggers.PrometheusStatLogger.__init__", "self._spec_decoding_cls"),
    ),
)
def prometheus_metrics() -> None:
    """Forwards by kind, tokens per forward and steps by block on ``/metrics``.

    Without it only vLLM's three ``vllm:diffusion_*`` counters are there. Acts
    where Prometheus metrics are made, the front end; other models' metrics stay
    as they are. A stat logger plugin would switch statistics on for every
    model. Remove when vLLM counts forwards of diffusion models.
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    from vllm_diffusion.server.prometheus import DiffusionProm

    take(PrometheusStatLogger, "_spec_decoding_cls")
    PrometheusStatLogger._spec_decoding_cls = DiffusionProm


@patch(
    "vllm.v1.metrics.stats.RequestSpecDecodeMetrics.to_dict",
    breaks="Start-up names the target; where vLLM no longer calls it, responses have wrong metrics",
    checks=(Calls("vllm.entrypoints.generate.base.serving", "metrics.to_dict"),),
)
def response_metrics() -> None:
    """Diffusion's own numbers in the ``metrics`` of a response.

    Without it vLLM would report an "acceptance length" that counts a bonus
    token, which diffusion models do not have. Acts in the front end, on records
    of this package alone. Remove when vLLM's response has metrics of diffusion
    models.
    """
    from vllm.v1.metrics.stats import RequestSpecDecodeMetrics

    original = take(RequestSpecDecodeMetrics, "to_dict")

    def to_dict(self: RequestSpecDecodeMetrics) -> dict[str, Any]:
        from vllm_diffusion.counters import RequestCounts

        counts = RequestCounts.decoded(self)
        if counts is None:
            result: dict[str, Any] = original(self)
            return result
        from vllm_diffusion.server.response import to_response

        return to_response(counts)

    RequestSpecDecodeMetrics.to_dict = to_dict  # type: ignore[method-assign]


@patch(
    "vllm.v1.engine.output_processor.instrument_manual",
    breaks="Start-up names the target; where vLLM no longer calls it, spans lack forwards",
    checks=(
        Calls("vllm.v1.engine.output_processor.OutputProcessor.do_tracing", "instrument_manual"),
        Takes(
            "vllm.v1.engine.output_processor.instrument_manual",
            ("span_name", "start_time", "end_time", "attributes"),
        ),
    ),
)
def span_attributes() -> None:
    """Forwards and tokens per forward on the span of a request.

    Without it a trace says how long a request took and not why. Acts in the
    front end, where traces are asked for; spans of other models stay as they
    are. Remove when vLLM's span takes attributes of a model.
    """
    from vllm.v1.engine import output_processor

    original = take(output_processor, "instrument_manual")

    def instrument_manual(*args: Any, **kwargs: Any) -> Any:
        from vllm_diffusion.server.spans import attributes

        if more := attributes():
            kwargs["attributes"] = {**(kwargs.get("attributes") or {}), **more}
        return original(*args, **kwargs)

    output_processor.instrument_manual = instrument_manual
