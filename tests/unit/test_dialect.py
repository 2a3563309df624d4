"""What clients of other servers say: taken with a word, or refused; limits of Mercury's dialect."""

from types import SimpleNamespace

import pytest

from vllm_diffusion.request.field_errors import InvalidFieldError
from vllm_diffusion.server.dialect import answer_of, limit, take_foreign


def request(level=None, **extra):
    limits = {name: extra.pop(name, None) for name in ("max_tokens", "max_completion_tokens")}
    return SimpleNamespace(model_extra=extra, _level=level, **limits)


def test_the_owner_chooses() -> None:
    assert answer_of(None) == answer_of({}) == answer_of({"foreign_fields": "refuse"}) == "refuse"
    assert answer_of({"foreign_fields": "warn"}) == "warn"
    with pytest.raises(InvalidFieldError, match=r"additional_config\.foreign_fields"):
        answer_of({"foreign_fields": True})


def test_foreign_fields_are_named_and_taken_out() -> None:
    asked = request(keep_alive=5, provider={}, cache_prompt=None, unknown=1)
    assert take_foreign(asked, "refuse") == []
    assert set(asked.model_extra) == {"keep_alive", "provider", "cache_prompt", "unknown"}
    (said,) = take_foreign(asked, "warn")
    assert "keep_alive (Ollama)" in said and "provider (OpenRouter)" in said
    assert set(asked.model_extra) == {"cache_prompt", "unknown"}
    assert take_foreign(request(unknown=1), "warn") == []


def test_a_limit_above_the_context_is_cut_in_mercurys_dialect_alone() -> None:
    plain = request(max_tokens=9000)
    assert limit(plain, 2048) == [] and plain.max_tokens == 9000
    for asked in (
        request(max_tokens=9000, realtime=False),
        request("instant", max_completion_tokens=9000),
    ):
        (said,) = limit(asked, 2048)
        assert "9000" in said and "2048" in said
        assert 2048 in (asked.max_tokens, asked.max_completion_tokens)
    assert limit(request(max_tokens=2048, realtime=True), 2048) == []
