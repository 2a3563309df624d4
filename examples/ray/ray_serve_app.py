"""Ray Serve LLM: replicas of a diffusion model that come and go with the load, behind one address.

    serve run examples.ray.ray_serve_app:app          # on the head of a running cluster
    MODEL=... REPLICAS=1-4 serve run examples.ray.ray_serve_app:app

Serves /v1/chat/completions and /v1/completions by Ray's own routes, which know vLLM's fields alone:
`diffusion_*` fields travel in `vllm_xargs`. What `vllm serve` adds here (refusals of unknown
fields, error codes, metrics of responses) belongs to vLLM's own server and is not on these routes.
"""

from __future__ import annotations

import json
import os
from typing import Any

import ray
from ray.serve.llm import LLMConfig, build_openai_app

MODEL = os.environ.get("MODEL", "examples/models/tiny-diffusion")
NAME = os.environ.get("SERVED_NAME", os.path.basename(MODEL.rstrip("/")))
REPLICAS = os.environ.get("REPLICAS", "1-2")
ONGOING = int(os.environ.get("ONGOING_REQUESTS", "32"))
"""Requests of a replica above which another one is started."""
ENGINE = json.loads(os.environ.get("ENGINE", "{}"))
"""Options of the engine, as `LLM()` takes them."""


def placement() -> dict[str, Any]:
    """On hosts without accelerators a replica takes a CPU of Ray's for each rank."""
    ray.init(ignore_reinit_error=True)
    if ray.cluster_resources().get("GPU", 0) > 0:
        return {}
    return {"placement_group_config": {"bundle_per_worker": {"CPU": 1}}}


fewest, _, most = REPLICAS.partition("-")
app = build_openai_app(
    {
        "llm_configs": [
            LLMConfig(
                model_loading_config={"model_id": NAME, "model_source": os.path.abspath(MODEL)},
                engine_kwargs=ENGINE,
                deployment_config={
                    "autoscaling_config": {
                        "min_replicas": int(fewest),
                        "max_replicas": int(most or fewest),
                        "target_ongoing_requests": ONGOING,
                    },
                    "max_ongoing_requests": 4 * ONGOING,
                },
                **placement(),
            )
        ]
    }
)
