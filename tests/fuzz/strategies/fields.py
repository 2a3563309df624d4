"""Every field of every route, with ordinary, odd and hostile values; bodies that are none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.strategies import texts

# A message or two that each route takes as it is.
CHAT = [{"role": "user", "content": "hi"}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "hi", "max_tokens": 8},
    "/v1/chat/completions": {"messages": CHAT, "max_tokens": 8},
    "/v1/responses": {"input": "hi", "max_output_tokens": 8},
    "/v1/messages": {"messages": CHAT, "max_tokens": 8},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [5, 6]},
}
UNKNOWN = ["/", "/v1", "/v1/nothing", "/v1/chat", "/v1/models/none", "/v1/completions/", "/x" * 400]

# Values that mean something, and are small: what is asked for is answered within a second.
ORDINARY: dict[str, list[Any]] = {
    "temperature": [0, 0.7, 2.0, 1e-9],
    "top_p": [1, 0.5, 1e-6],
    "top_k": [0, -1, 1, 50],
    "min_p": [0, 0.5, 1.0],
    "top_n_sigma": [0, 0.5, 100],
    "seed": [0, 1, 2**40],
    "n": [1, 2, 3],
    "max_tokens": [1, 8, 17, 40],
    "max_completion_tokens": [1, 20],
    "max_output_tokens": [1, 20],
    "min_tokens": [0, 3],
    "stop": ["a", ["a", "b"], ["e"] * 5, [], "\n", ["zzz" * 60]],
    "stop_token_ids": [[2], [5, 6, 7], []],
    "frequency_penalty": [0.5, -2.0],
    "presence_penalty": [0.5, 2.0],
    "repetition_penalty": [1.2, 0.8],
    "logit_bias": [{"5": 1.5}, {"5": -100, "6": 100}, {}],
    "allowed_token_ids": [[5, 6, 7], []],
    "bad_words": [["a"], ["the", "é"], []],
    "logprobs": [1, True, 5, 0],
    "top_logprobs": [0, 2],
    "prompt_logprobs": [0, 1],
    "echo": [True],
    "stream": [True],
    "stream_options": [{"include_usage": True}, {"continuous_usage_stats": True}],
    "ignore_eos": [True],
    "include_stop_str_in_output": [True],
    "skip_special_tokens": [False],
    "truncate_prompt_tokens": [1, 4, -1],
    "add_special_tokens": [False],
    "return_token_ids": [True],
    "return_tokens_as_token_ids": [True],
    "thinking_token_budget": [4],
    "reasoning_effort": ["low", "high", "instant", "none"],
    "priority": [0],
    "cache_salt": ["a"],
    "request_id": ["mine"],
    "user": ["me"],
    "suffix": ["", "end"],
    "best_of": [1, 2],
    "prompt": ["hi", ["a", "b"], [5, 6, 7], [[5], [6, 7]], "é😀", "x" * 300],
    "messages": [[{"role": "system", "content": "be"}, *CHAT], [*CHAT, *CHAT]],
    "input": ["hi", [{"role": "user", "content": "hi"}]],
    "system": ["be brief"],
    "instructions": ["be brief"],
    "tools": [[]],
    "tool_choice": ["auto", "none"],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
    "structured_outputs": [{"choice": ["a", "b"]}, {"regex": "[ab]{3}"}, {"json_object": True}],
    "chat_template": ["{{ messages }}"],
    "chat_template_kwargs": [{"enable_thinking": False}],
    "add_generation_prompt": [False],
    "continue_final_message": [True],
    "documents": [[{"title": "a", "text": "b"}]],
    "metadata": [{"a": "b"}],
    "service_tier": ["auto"],
    "store": [False],
    "model": ["nobody", "tiny-diffusion"],
    "repetition_detection": [{"max_pattern_size": 4, "min_count": 3}],
    "previous_response_id": ["resp_1"],
    "reasoning": [{"effort": "low"}],
    "text": [{"format": {"type": "text"}}],
    "truncation": ["auto", "disabled"],
    "background": [False],
    "stop_sequences": [["a"]],
    "thinking": [{"type": "disabled"}],
    "tokens": [[5, 6], []],
    "unknown_field": [1],
}
XARGS: dict[str, list[Any]] = {
    "diffusion_policy": ["confidence", "margin", "entropy", "static", "topk_margin", "origin"],
    "diffusion_threshold": [0.0, 0.5, 1.0],
    "diffusion_max_steps": [1, 2, 16],
    "diffusion_block_length": [4, 16],
    "diffusion_effort": ["instant", "high"],
    "diffusion_keywords": [["lamp"], ["é", "oslo"], ["k", "-'Ω"]],
    "diffusion_without": [["e"], ["lamp", "x" * 200]],
    "diffusion_min_chars": [1, 20],
    "diffusion_max_chars": [1, 20],
    "diffusion_sub_block_length": [8],
    "diffusion_kv_cache": ["exact"],
    "diffusion_nothing": [1],
}
RAW = [
    "",
    "{",
    "[]",
    "null",
    "5",
    '"x"',
    "{}",
    "[" * 3000,
    '{"a":' * 1500 + "1" + "}" * 1500,
    '{"prompt": "\\ud800", "max_tokens": 4}',
    '{"prompt": "hi", "max_tokens": 1e400}',
    '{"prompt": "hi", "max_tokens": ' + "9" * 5000 + "}",
    '{"prompt": "hi", "prompt": "ho", "max_tokens": 4}',
    "\x00",
]


def _value(field: str, ordinary: dict[str, list[Any]]) -> st.SearchStrategy[Any]:
    # Hostile ones of another field's, too: the right form in a wrong place.
    borrowed = st.sampled_from(sorted(ordinary)).flatmap(lambda f: st.sampled_from(ordinary[f]))
    return st.one_of(
        st.sampled_from(ordinary[field]),
        st.sampled_from(ordinary[field]),
        texts.hostile,
        borrowed,
    )


@st.composite
def field_cases(draw: st.DrawFn) -> Case:
    if draw(st.integers(0, 19)) == 0:
        return draw(_odd_requests())
    # Most clients use the first two.
    often = [*ROUTES, "/v1/completions", "/v1/chat/completions", "/v1/completions"]
    route = draw(st.sampled_from(often))
    body = dict(ROUTES[route])
    chosen = draw(st.lists(st.sampled_from(sorted(ORDINARY)), min_size=1, max_size=3, unique=True))
    for field in chosen:
        body[field] = draw(_value(field, ORDINARY))
    if draw(st.integers(0, 3)) == 0:
        keys = draw(st.lists(st.sampled_from(sorted(XARGS)), min_size=1, max_size=3, unique=True))
        body["vllm_xargs"] = {key: draw(_value(key, XARGS)) for key in keys}
    if body.get("n") not in (1, 2, 3) and isinstance(body.get("n"), int) and body["n"] > 3:
        body["n"] = 10**9  # more than vLLM allows, not as many as it would serve
    return Case("fields", route, body)


@st.composite
def _odd_requests(draw: st.DrawFn) -> Case:
    """Unknown paths, wrong methods, bodies that are no JSON or no object."""
    if draw(st.booleans()):
        return Case("fields", draw(st.sampled_from(UNKNOWN)), {}, method=draw(methods))
    route = draw(st.sampled_from(sorted(ROUTES)))
    if draw(st.booleans()):
        return Case("fields", route, None, method="GET")
    deep = json.dumps({"prompt": "hi", "max_tokens": 4, "logit_bias": texts.nested(50)})
    return Case("fields", route, None, raw=draw(st.sampled_from([*RAW, deep])))


methods = st.sampled_from(["GET", "POST", "PUT", "DELETE"])
