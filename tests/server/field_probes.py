"""A request for every field that ``vllm_diffusion.server.fields`` has a record of.

Each probe is a plain request with something more in it, and says what must
come of that: a refusal that names the field, or an answer, with what can be
seen of the field in it. Data; ``test_bundled_model.py`` sends them.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.tiny.prompts import load_prompts
from tests.server.probes import (
    Probe,
    Response,
    choice,
    differs,
    from_plain,
    ids,
    num_tokens,
    prompt_ids,
    refused,
    same,
    served,
    steps,
    text,
    tokens,
)
from vllm_diffusion.server.fields import OTHERS, RECORDS, Field

LETTER = "Write a thank letter: sender eva, to omar, item lamp, city oslo, day friday."
PROMPT = f"user\n{LETTER}\nassistant\nDear omar,\n\nthank you"
PLAIN: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": LETTER}], "max_tokens": 24},
    "completion": {"prompt": PROMPT, "max_tokens": 24},
}
ALWAYS = {"temperature": 0, "return_token_ids": True}
EOS = 2
SPOKEN = [*PLAIN["chat"]["messages"], {"role": "assistant", "content": "Dear omar,"}]
CONTINUED = {"messages": SPOKEN, "add_generation_prompt": False, "continue_final_message": True}
TOOLS = next(
    s for s in load_prompts("validation", 20) if s.task == "tool" and s.answer.count("<tool_") == 2
)
CALLS = {"messages": TOOLS.prompt_messages, "tools": TOOLS.tools, "max_tokens": 200}
UNSURE = {"messages": [{"role": "user", "content": "Tell me something."}], "n": 4}
JSON_FORM = {"response_format": {"type": "json_object"}, "max_tokens": 80}

LONG = {"ignore_eos": True, "max_tokens": 150}


def four(r: Response, plain: Response) -> bool:
    """Answers that are not all alike."""
    return len({one["message"]["content"] for one in r["choices"]}) > 1


HOT = {"temperature": 2.0, "seed": 7}
SHARED: dict[str, list[Probe]] = {
    "model": [Probe("refused", {"model": "nobody"}, status=404)],
    "temperature": [served(differs, **HOT)],
    "top_p": [served(same, **HOT, top_p=1e-6)],
    "top_k": [served(same, **HOT, top_k=1)],
    "min_p": [served(same, **HOT, min_p=1.0)],
    "top_n_sigma": [
        served(same, **HOT, top_n_sigma=1e-3),
        served(same, top_n_sigma=0),
        refused("from 0 to 100", top_n_sigma=-1),
    ],
    "seed": [served(differs, **HOT), refused(seed="x"), refused(seed=2**63)],
    "n": [served(lambda r, _: len(r["choices"]) == 2, **HOT, n=2)],
    "frequency_penalty": [served(differs, frequency_penalty=2.0, max_tokens=60)],
    "presence_penalty": [served(differs, presence_penalty=2.0, max_tokens=60)],
    "repetition_penalty": [served(differs, repetition_penalty=2.0)],
    "logit_bias": [
        from_plain(
            lambda p: {"logit_bias": {str(ids(p)[0]): -100}}, lambda r, p: ids(p)[0] not in ids(r)
        )
    ],
    "allowed_token_ids": [
        from_plain(
            lambda p: {"allowed_token_ids": [ids(p)[0]]}, lambda r, p: set(ids(r)) == {ids(p)[0]}
        )
    ],
    "bad_words": [
        from_plain(
            lambda p: {"bad_words": [text(p).split()[3]]},
            lambda r, p: text(p).split()[3] not in text(r),
        )
    ],
    "min_tokens": [served(lambda r, _: num_tokens(r) >= 150, min_tokens=150, max_tokens=160)],
    "max_tokens": [served(lambda r, _: num_tokens(r) == 5, max_tokens=5)],
    "stop": [
        from_plain(
            lambda p: {"stop": [text(p)[7:12]]},
            lambda r, p: text(r) == text(p)[: text(p).index(text(p)[7:12])],
        )
    ],
    "stop_token_ids": [
        from_plain(
            lambda p: {"stop_token_ids": [ids(p)[3]]},
            lambda r, p: choice(r)["stop_reason"] == ids(p)[3],
        )
    ],
    "include_stop_str_in_output": [
        from_plain(
            lambda p: {"stop": [text(p)[7:12]], "include_stop_str_in_output": True},
            lambda r, p: text(r).endswith(text(p)[7:12]),
        )
    ],
    "ignore_eos": [served(lambda r, _: num_tokens(r) == 150, **LONG)],
    "repetition_detection": [
        from_plain(
            lambda p: {
                "allowed_token_ids": [ids(p)[0]],
                "repetition_detection": {"max_pattern_size": 2, "min_count": 4},
            },
            lambda r, _: choice(r)["finish_reason"] == "repetition" and num_tokens(r) == 4,
        )
    ],
    # Their own tests know when which.
    "thinking_token_budget": [Probe("either", {"thinking_token_budget": 5})],
    "prompt_logprobs": [refused(prompt_logprobs=1)],
    "return_token_ids": [
        served(lambda r, _: choice(r)["token_ids"] is None, return_token_ids=False)
    ],
    "response_format": [
        served(lambda r, _: isinstance(json.loads(text(r)), dict), **JSON_FORM),
        refused(
            "did you mean",
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {}},
                "json_shema": {"name": "x"},
            },
        ),
    ],
    "structured_outputs": [
        served(
            lambda r, _: text(r) in ("red", "blue"),
            structured_outputs={"choice": ["red", "blue"]},
        ),
        *(
            refused(structured_outputs={"regex": "a", option: value})
            for option, value in (
                ("disable_any_whitespace", True),
                ("disable_additional_properties", True),
                ("whitespace_pattern", "x"),
            )
        ),
    ],
    "truncate_prompt_tokens": [
        served(lambda r, p: prompt_ids(r) == prompt_ids(p)[-3:], truncate_prompt_tokens=3)
    ],
    "truncation_side": [
        served(
            lambda r, p: prompt_ids(r) == prompt_ids(p)[:3],
            truncate_prompt_tokens=3,
            truncation_side="right",
        )
    ],
    "add_special_tokens": [
        served(same, add_special_tokens=True),  # The tokenizer adds none.
        served(same, add_special_tokens=False),
    ],
    "cache_salt": [served(same, cache_salt="pepper")],
    "stream": [served(lambda r, _: len(r["chunks"]) > 3, stream=True, **LONG)],
    "stream_options": [
        served(
            lambda r, _: r["chunks"][-1]["usage"]["completion_tokens"],
            stream=True,
            stream_options={"include_usage": True},
        ),
        refused("did you mean", stream=True, stream_options={"include_usages": True}),
    ],
    "stream_interval": [
        served(
            # The first block, and the rest; a chat names the role before them.
            lambda r, _: len(r["chunks"]) <= 3,
            stream=True,
            stream_interval=1000,
            **LONG,
        )
    ],
    "skip_special_tokens": [
        served(
            lambda r, _: "<|im_end|>" in text(r),
            skip_special_tokens=False,
            ignore_eos=True,
            logit_bias={str(EOS): 100},
        )
    ],
    "spaces_between_special_tokens": [served(same, spaces_between_special_tokens=False)],
    "request_id": [served(lambda r, _: "probed" in r["id"], request_id="probed")],
    "session_id": [served(same, session_id="a session")],
    "vllm_xargs": [
        served(lambda r, p: steps(r) > steps(p), vllm_xargs={"diffusion_threshold": 1}),
        refused("carries the diffusion_* fields", vllm_xargs={"threshold": 0.5}),
    ],
    "priority": [served(same, priority=0), refused("--scheduling-policy", priority=5)],
    "kv_transfer_params": [refused(kv_transfer_params={"do_remote_decode": True})],
    "use_beam_search": [refused("take n answers", use_beam_search=True)],
    "length_penalty": [refused(length_penalty=0.5)],
    "watermarking": [refused(watermarking=True)],
    "ec_transfer_params": [refused(ec_transfer_params={"a": 1})],
    "routed_experts_prompt_start": [refused(routed_experts_prompt_start=1)],
    "return_token_offsets": [refused(return_token_offsets=True)],
    "mm_payload": [served(same, mm_payload="none")],
    "return_mm_kwargs": [served(same, return_mm_kwargs=False), served(same, return_mm_kwargs=True)],
    "user": [served(same, user="eva")],
}

CHAT: dict[str, list[Probe]] = SHARED | {
    # Of a letter the model is sure at any temperature.
    "temperature": [served(four, **UNSURE, temperature=2.0)],
    "seed": [served(four, **UNSURE, temperature=2.0, seed=7), refused(seed="x")],
    "messages": [served(differs, messages=SPOKEN)],
    "max_completion_tokens": [
        served(lambda r, _: num_tokens(r) == 5, max_completion_tokens=5, max_tokens=24)
    ],
    "logprobs": [
        served(lambda r, _: len(choice(r)["logprobs"]["content"]) == num_tokens(r), logprobs=True)
    ],
    "top_logprobs": [
        served(
            lambda r, _: all(len(t["top_logprobs"]) == 2 for t in tokens(r)),
            logprobs=True,
            top_logprobs=2,
        ),
        refused(top_logprobs=2),
    ],
    "logprob_token_ids": [
        served(
            lambda r, _: all(len(t["top_logprobs"]) >= 2 for t in tokens(r)),
            logprobs=True,
            logprob_token_ids=[40, 41],
        )
    ],
    "return_tokens_as_token_ids": [
        served(
            lambda r, _: tokens(r)[0]["token"] == f"token_id:{ids(r)[0]}",
            logprobs=True,
            return_tokens_as_token_ids=True,
        )
    ],
    "tools": [
        served(
            lambda r, p: "Tools:" in r["prompt_text"],
            tools=TOOLS.tools,
            tool_choice="none",
            return_prompt_text=True,
        )
    ],
    "tool_choice": [
        served(
            lambda r, _: choice(r)["message"]["tool_calls"], **CALLS | {"tool_choice": "required"}
        ),
        refused("two forms of the text", **CALLS | JSON_FORM | {"tool_choice": "required"}),
    ],
    "parallel_tool_calls": [
        served(
            lambda r, _: len(choice(r)["message"]["tool_calls"]) == 1,
            **CALLS | {"parallel_tool_calls": False},
        )
    ],
    "reasoning_effort": [Probe("either", {"reasoning_effort": "high"})],
    # It hides token ids as well.
    "include_reasoning": [served(lambda r, p: text(r) == text(p), include_reasoning=False)],
    "echo": [
        served(lambda r, _: text(r).startswith("Dear omar,"), **CONTINUED, echo=True),
        refused(echo=True, logprobs=True),
    ],
    "add_generation_prompt": [
        served(
            lambda r, _: r["prompt_text"].endswith("<|im_end|>\n"),
            add_generation_prompt=False,
            return_prompt_text=True,
        )
    ],
    "continue_final_message": [
        served(
            lambda r, _: r["prompt_text"].endswith("Dear omar,"),
            **CONTINUED,
            return_prompt_text=True,
        )
    ],
    "chat_template": [
        Probe("refused", {"chat_template": "{{ messages }}"}, words="--trust-request-chat-template")
    ],
    "chat_template_kwargs": [
        served(same, chat_template_kwargs={"shout": False}),
        refused("does not read it", chat_template_kwargs={"shout": True}),
    ],
    "documents": [refused("does not read it", documents=[{"title": "a", "text": "b"}])],
    "return_prompt_text": [
        served(lambda r, _: LETTER in r["prompt_text"], return_prompt_text=True)
    ],
    "media_io_kwargs": [refused(media_io_kwargs={"image": {}})],
    "mm_processor_kwargs": [refused(mm_processor_kwargs={"a": 1})],
}


COMPLETION: dict[str, list[Probe]] = SHARED | {
    "prompt": [served(lambda r, _: prompt_ids(r) == [40, 41], prompt=[40, 41])],
    "logprobs": [
        served(lambda r, _: len(choice(r)["logprobs"]["tokens"]) == num_tokens(r), logprobs=0)
    ],
    "logprob_token_ids": [
        served(
            lambda r, _: all(len(t) >= 2 for t in choice(r)["logprobs"]["top_logprobs"]),
            logprobs=0,
            logprob_token_ids=[40, 41],
        )
    ],
    "return_tokens_as_token_ids": [
        served(
            lambda r, _: choice(r)["logprobs"]["tokens"][0] == f"token_id:{ids(r)[0]}",
            logprobs=0,
            return_tokens_as_token_ids=True,
        )
    ],
    "echo": [
        served(lambda r, p: text(r) == PROMPT + text(p), echo=True, return_token_ids=False),
        served(lambda r, _: text(r) == PROMPT, echo=True, max_tokens=0, return_token_ids=False),
        refused(echo=True, logprobs=0),
    ],
    # Every probe asks for token ids; ``test_infill`` has the field by itself.
    "suffix": [refused("return_token_ids does not go together with suffix", suffix="the end")],
    "prompt_embeds": [refused(prompt_embeds="AAAA")],
}

OTHER: dict[str, list[Probe]] = {
    **{
        name: [served(same, **{name: value})]
        for name, value in (
            ("metadata", {"a": "b"}),
            ("safety_identifier", "eva"),
            ("prompt_cache_key", "a key"),
        )
    },
    **{
        name: [refused(**{name: value})]
        for name, value in (
            ("prompt_cache_options", {"mode": "explicit"}),
            ("prompt_cache_retention", "24h"),
            ("store", True),
            ("service_tier", "flex"),
            ("verbosity", "low"),
            ("modalities", ["text", "audio"]),
            ("audio", {"voice": "ash", "format": "wav"}),
            ("prediction", {"type": "text", "text": "Dear omar,"}),
            ("moderation", {"model": "m"}),
            ("web_search_options", {"search_context_size": "low"}),
            ("functions", [{"name": "f"}]),
            ("function_call", "auto"),
            ("best_of", 3),
            ("early_stopping", True),
            ("diffusing", True),
            ("realtime", True),
            ("reasoning_summary", True),
            ("reasoning_summary_wait", True),
            ("guided_json", {"type": "object"}),
            ("guided_regex", "a"),
            ("guided_choice", ["a"]),
            ("guided_grammar", "root ::= a"),
            ("guided_decoding_backend", "xgrammar"),
            ("guided_whitespace_pattern", "x"),
            ("enable_thinking", True),
        )
    },
    "extra_body": [served(extra_body={"top_k": 1})],
    "stream_options.include_obfuscation": [
        refused(stream=True, stream_options={"include_obfuscation": True})
    ],
}

PROBES: dict[str, dict[str, list[Probe]]] = {"chat": CHAT | OTHER, "completion": COMPLETION | OTHER}


def neutral(field: str, record: Field) -> list[Probe]:
    """A refused field whose value asks for nothing: as if it were not there."""
    if record.neutral_values is None or "." in field:
        return []
    # vLLM's models take null for some fields alone.
    values = [None, *record.neutral_values] if field in OTHERS else record.neutral_values
    return [served(same, **{field: value}) for value in values]


CASES: list[tuple[str, str, Probe]] = [
    (route, field, probe)
    for route, probes in PROBES.items()
    for field, record in (RECORDS[route] | OTHERS).items()
    for probe in [*probes[field], *neutral(field, record)]
]
