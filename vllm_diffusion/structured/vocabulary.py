"""What constraints know of a tokenizer: the bytes of its tokens, made once a process.

Shape suffixes: V vocabulary, B bytes of the longest token, W words of 32 bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vllm_diffusion.structured.constraint import RefusedError
from vllm_diffusion.structured.matcher import Bits, packed

IS_LEAD = (np.arange(256) & 0xC0) != 0x80
"""Bytes that a character starts with."""


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """A fast tokenizer, as another process can make it again."""

    text: str
    """Of the ``tokenizers`` library, as JSON."""
    size: int
    """V: the model's, padding included."""
    never: tuple[int, ...]
    """Tokens that stand for no text: the mask and special ones."""

    @classmethod
    def of(cls, tokenizer: Any, size: int, mask_id: int) -> TokenizerSpec:
        """Of a Hugging Face tokenizer.

        Raises:
            RefusedError: it is not a fast one.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None) or getattr(
            tokenizer, "_tokenizer", None
        )
        if backend is None or not hasattr(backend, "to_str"):
            raise RefusedError(
                f"structured output needs a tokenizer of the library `tokenizers`, and this is a "
                f"{type(tokenizer).__name__}"
            )
        data = json.loads(backend.to_str())
        data["truncation"] = data["padding"] = None
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {token for token, text in added.items() if text.special}
        special |= {*tokenizer.all_special_ids, mask_id}
        never = tuple(sorted(token for token in special if 0 <= token < size))
        return cls(json.dumps(data), size, never)

    @property
    def digest(self) -> str:
        """Of everything that compiled constraints depend on."""
        said = json.dumps((self.text, self.size, self.never))
        return hashlib.sha256(said.encode()).hexdigest()


class _Tokens:
    """A vocabulary as llguidance wants one; ends are the request's and put in by the matcher."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.encode = vocabulary.encode
        self.eos_token_id = vocabulary.never[0]
        self.special_token_ids = [t for t, text in enumerate(vocabulary.spelled) if not text]
        self.tokens = [text or b"<no text>" for text in vocabulary.spelled]

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self.encode(text if isinstance(text, str) else text.decode())
        return ids


class Vocabulary:
    """The bytes of V tokens, and the ways from texts to them.

    Args:
        spelled: V texts; those of ``never`` count as empty.
        never: tokens that are not text.
        encode: text to tokens, as the model would write it.
        spec: of the tokenizer, for llguidance; None where it is not asked.
    """

    def __init__(
        self,
        spelled: Sequence[bytes],
        never: Sequence[int],
        encode: Any,
        spec: TokenizerSpec | None = None,
    ) -> None:
        self.spec = spec
        self.encode = encode
        self.never = tuple(never)
        banned = set(never)
        self.spelled = [b"" if t in banned else text for t, text in enumerate(spelled)]
        self.size = len(self.spelled)
        self.num_words = -(-self.size // 32)

    @classmethod
    def of(cls, spec: TokenizerSpec) -> Vocabulary:
        """Made from a tokenizer alone; takes a second at 150,000 tokens."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(spec.text)

        def encode(text: str) -> list[int]:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
            return ids

        import llguidance

        # Its bytes are right for every kind of tokenizer; which tokens are special is not: it
        # takes all that look like <tag> for special ones.
        known = tokenizer.get_vocab_size(with_added_tokens=True)
        ll = llguidance.LLTokenizer(spec.text, n_vocab=spec.size, eos_token=[spec.never[0]])
        spelled = [ll.decode_bytes([token]) if token < known else b"" for token in range(spec.size)]
        return cls(spelled, spec.never, encode, spec)

    @cached_property
    def ll_tokenizer(self) -> Any:
        """llguidance's, over the same V texts."""
        import llguidance

        return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Tokens(self)))

    @cached_property
    def length_V(self) -> NDArray[np.int64]:
        return np.array([len(text) for text in self.spelled], dtype=np.int64)

    @cached_property
    def bytes_VB(self) -> NDArray[np.uint8]:
        out = np.zeros((self.size, max(int(self.length_V.max(initial=0)), 1)), dtype=np.uint8)
        for token, text in enumerate(self.spelled):
            out[token, : len(text)] = np.frombuffer(text, dtype=np.uint8)
        return out

    @cached_property
    def text_bits_W(self) -> Bits:
        """Tokens that are text."""
        return packed(self.length_V > 0, self.num_words)

    @cached_property
    def chars_V(self) -> NDArray[np.int64]:
        """Characters that begin in each token."""
        is_inside_VB = np.arange(self.bytes_VB.shape[1]) < self.length_V[:, None]
        count_V: NDArray[np.int64] = (IS_LEAD[self.bytes_VB] & is_inside_VB).sum(axis=1)
        return count_V

    @cached_property
    def longer(self) -> list[NDArray[np.int64]]:
        """Tokens that have a byte at each place."""
        return [np.flatnonzero(self.length_V > at) for at in range(self.bytes_VB.shape[1])]

    @cached_property
    def token_of(self) -> dict[bytes, int]:
        """Tokens of one byte."""
        return {text: t for t, text in enumerate(self.spelled) if len(text) == 1}

    def cut(self, text: bytes) -> list[int]:
        """Bytes as tokens; those of a character that is not whole one by one, -1 for none."""
        try:
            return list(self.encode(text.decode())) if text else []
        except UnicodeDecodeError:
            return [self.token_of.get(text[at : at + 1], -1) for at in range(len(text))]

    def whole(self, text: bytes) -> list[int]:
        """The tokens of forced bytes that stay what they are whatever follows.

        The last token may merge with what comes next, and is left to the model; a character that
        has only begun is left for later.
        """
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            decoded = text[: error.start].decode()
        return list(self.encode(decoded))[:-1] if decoded else []
