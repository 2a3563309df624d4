"""The reference that keeps K and V says what those say that compute everything in every step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import nemotron_labs, sdar
from tests.parity.cases import random_tokens
from tests.parity.references import block_causal, causal_context, long
from tests.parity.references.network import Network

STOPS: dict[str, Any] = {"stop_ids": (2,), "max_len": 1024}


@pytest.mark.parametrize("length", [5, 40, 531])
@pytest.mark.parametrize("threshold", [0.5, 0.01])
def test_it_is_the_plain_one(length: int, threshold: float, tmp_path: Path) -> None:
    for module, plain, kept in (
        (sdar, block_causal.generate, long.block_causal),
        (nemotron_labs, causal_context.generate, long.causal_context),
    ):
        folder = module.write(tmp_path / module.__name__)
        prompt = list(random_tokens(length, 1))
        fields = {"mask_id": module.MASK_ID, "block": 8, "threshold": threshold} | STOPS
        want = plain(Network(folder), prompt, 21, **fields)
        got = kept(long.KeptNetwork(folder), prompt, 21, **fields)
        assert got[:2] == want[:2]
        assert got.slack == pytest.approx(want.slack, abs=1e-4)

        # What is kept already is a prompt's beginning as well.
        network = long.KeptNetwork(folder)
        begin = length // 8 * 8
        long.keep(network, prompt[:begin], 8 if module is sdar else 1)
        after = partial(kept, network, prompt[begin:], 21)
        if begin < length:
            assert after(**fields)[:2] == want[:2]
