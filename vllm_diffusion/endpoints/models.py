"""What is served: vLLM's list of models with what Mercury's clients read of one, and one model.

``/v1/models`` replaces vLLM's route, so it answers for other models as well, in vLLM's words.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request

from vllm_diffusion.endpoints.access import allow
from vllm_diffusion.server.fields import RECORDS

router = APIRouter()

ENDPOINTS = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/fim/completions": "fim.completions",
    "/v1/edit/completions": "edit.completions",
    "/v1/apply/completions": "apply.completions",
    "/infill": "infill",
    "/v1/decisions": "decisions",
    "/v1/systemone": "systemone",
}
"""Routes, where a server has them, under the names of ``supported_endpoints``."""
SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "top_n_sigma", "seed", "stop", "max_tokens"),
    *("max_completion_tokens", "min_tokens", "frequency_penalty", "presence_penalty"),
    *("repetition_penalty", "logit_bias", "logprobs", "top_logprobs", "bad_words"),
    *("response_format", "structured_outputs", "tools", "tool_choice", "reasoning_effort"),
)
"""Fields of a chat that clients look for in ``supported_sampling_parameters``."""
FREE = {"prompt": "0", "completion": "0", "input_cache_reads": "0", "input_cache_writes": "0"}
"""A server of one's own takes no money; clients that add up costs need a figure."""


def endpoints_of(app: Any) -> list[str]:
    """The routes that answer, by name."""
    paths = {getattr(route, "path", None) for route in app.routes}
    served = [name for path, name in ENDPOINTS.items() if path in paths]
    # The route of structured decisions is vLLM's, and refuses models that it does not know.
    return [name for name in served if name != "systemone" or "decisions" in served]


def features_of(state: Any) -> list[str]:
    """What a chat can ask for; the server's options decide some."""
    chat = getattr(state, "openai_serving_chat", None)
    args = getattr(state, "args", None)
    features = ["streaming", "json_mode", "structured_outputs"]
    if getattr(chat, "enable_auto_tools", False):
        features.append("tools")
    if getattr(getattr(args, "structured_outputs_config", None), "reasoning_parser", None):
        features.append("reasoning")
    return features


def sampling_of() -> list[str]:
    """Honoured whatever the options; by the same records that requests are checked with."""
    records = RECORDS["chat"]
    return [name for name in SAMPLING if records[name].status == "honoured"]


def completed(card: dict[str, Any], app: Any) -> dict[str, Any]:
    """vLLM's card with Mercury's fields beside its own."""
    longest = card["max_model_len"] or app.state.openai_serving_models.model_config.max_model_len
    parameters = sampling_of()
    return card | {
        "name": card["id"],
        "context_length": longest,
        "max_output_length": longest,
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "pricing": FREE,
        "supported_endpoints": endpoints_of(app),
        "supported_features": features_of(app.state),
        "supported_sampling_parameters": parameters,
        "supported_parameters": parameters,
    }


async def listed(request: Request) -> dict[str, Any]:
    """vLLM's list, completed where the model is one of ours."""
    app = request.app
    models = (await app.state.openai_serving_models.show_available_models()).model_dump()
    if getattr(app.state, "diffusion_is_served", False):
        models["data"] = [completed(card, app) for card in models["data"]]
    return models  # type: ignore[no-any-return]


@router.get("/v1/models")
async def list_models(raw_request: Request) -> dict[str, Any]:
    """Every name that is served."""
    return await listed(raw_request)


@router.get("/v1/{kind}/completions/models", dependencies=[Depends(allow)])
async def list_models_of(kind: str, raw_request: Request) -> dict[str, Any]:
    """Models that answer one of Mercury's endpoints; none where the server lacks it."""
    if kind not in ("chat", "fim", "edit"):
        raise HTTPException(404, "Not Found")
    models = await listed(raw_request)
    name = f"{kind}.completions"
    models["data"] = [card for card in models["data"] if name in card["supported_endpoints"]]
    return models


@router.get("/v1/models/{model_id:path}", dependencies=[Depends(allow)])
async def retrieve_model(model_id: str, raw_request: Request) -> dict[str, Any]:
    """One of them, by its name."""
    for card in (await listed(raw_request))["data"]:
        if card["id"] == model_id:
            return card  # type: ignore[no-any-return]
    raise HTTPException(404, f"The model `{model_id}` does not exist.")
