"""Networks for checks of the decoders themselves: small, random or scripted, without a checkpoint.

All make a row out of what the row sees and of nothing else.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.references.choose import without

MASK, VOCAB = 22, 23


class Toy:
    """Two random attention layers: enough for stale keys and values to differ from fresh ones."""

    def __init__(self, vocab: int = VOCAB, width: int = 16, seed: int = 0, sharpness: float = 3.0):
        draw = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(vocab, width, generator=draw)
        self.place = torch.randn(512, width, generator=draw)
        self.layers = [torch.randn(4, width, width, generator=draw) / width**0.5 for _ in range(2)]
        self.head = sharpness * torch.randn(vocab, width, generator=draw) / width**0.5
        self.forwards = 0

    def logits(
        self,
        tokens: list[int],
        mask: Tensor,
        blocks: Any = None,
        *,
        positions: Sequence[int] | None = None,
        frozen: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Float32 (T, V). With ``frozen``, a layer's K and V of the earlier, cached tokens.

        ``kept`` holds each layer's K and V of this forward; ``mask`` is (T, cached + T) then.
        """
        self.forwards += 1
        x = self.embedding[tokens] + self.place[list(positions or range(len(tokens)))]
        self.kept = []
        for layer, (q, k, v, o) in enumerate(self.layers):
            y = F.layer_norm(x, x.shape[-1:])
            keys, values = y @ k, y @ v
            self.kept.append((keys, values))
            if frozen is not None:
                keys = torch.cat((frozen[layer][0], keys))
                values = torch.cat((frozen[layer][1], values))
            scores = (y @ q @ keys.T / x.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
            x = x + torch.tanh(scores.softmax(-1) @ values @ o)
        return F.layer_norm(x, x.shape[-1:]) @ self.head.T


class Script:
    """Knows a text by heart: at a mask it says the text's token there, else the one after it.

    Except for positions in ``wrong``: there it says token 0 as long as any mask is in sight.
    """

    def __init__(self, text: Sequence[int], mask_id: int, vocab: int = VOCAB, sure: float = 20.0):
        self.text, self.mask_id, self.vocab, self.sure = list(text), mask_id, vocab, sure
        self.wrong: set[int] = set()
        self.says_own = False
        """Say the token at a row's own position at settled tokens, too."""

    def logits(self, tokens: list[int], mask: Tensor, blocks: Any = None) -> Tensor:
        said = []
        for i, token in enumerate(tokens):
            is_open = any(t == self.mask_id and mask[i, j] for j, t in enumerate(tokens))
            at = i if self.says_own or token == self.mask_id else i + 1
            said.append(0 if at in self.wrong and is_open else self.text[at])
        return self.sure * F.one_hot(torch.tensor(said), self.vocab).float()


class Noise:
    """A network whose every logit is off by at most ``bound``."""

    def __init__(self, network: Any, bound: float, seed: int) -> None:
        self.network, self.bound = network, bound
        self.draw = torch.Generator().manual_seed(seed)

    def logits(self, tokens: list[int], mask: Tensor, blocks: Any = None) -> Tensor:
        logits = self.network.logits(tokens, mask)
        return logits + self.bound * (2 * torch.rand(logits.shape, generator=self.draw) - 1)


def prompt_of(length: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(VOCAB - 1) for _ in range(length)]


def one_by_one(known: Sequence[int], length: int, look: Callable[[list[int]], Tensor]) -> list[int]:
    """Brute force: fill ``length`` masks behind ``known``, the surest of all first."""
    tokens = [*known, *[MASK] * length]
    masked = set(range(len(known), len(tokens)))
    while masked:
        probs = without(MASK, look(tokens)).softmax(-1)
        surest = max(sorted(masked), key=lambda i: float(probs[i].max()))
        tokens[surest] = int(probs[surest].argmax())
        masked.remove(surest)
    return tokens
