"""What a refused field may have been meant to be."""

from __future__ import annotations

import pytest

from vllm_diffusion.request.params import InvalidFieldError, read_fields


@pytest.mark.parametrize("prefix", ["diffusion_", ""])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("treshold", "threshold"),
        ("Threshold", "threshold"),
        ("kvcache", "kv_cache"),
        ("max_step", "max_steps"),
        ("max_denoising_steps", None),
        ("foo", None),
    ],
)
def test_a_slip_is_recognised(name: str, meant: str | None, prefix: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        read_fields({prefix + name: 1}, prefix=prefix)
    said = str(caught.value)
    if meant is None:
        assert "did you mean" not in said
    else:
        assert said.endswith(f"; did you mean {prefix}{meant}?")
