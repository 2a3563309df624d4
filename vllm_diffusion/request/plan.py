"""How a loaded checkpoint is decoded: the family's record, met with its config.

Who decides what, the first that says something wins: the request, the server
(``--additional-config``, ``--diffusion-config``), the checkpoint's
``generation_config.json``, the family's record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_diffusion.family.record import FamilyRecord
from vllm_diffusion.request.params import (
    PREFIX,
    DecodeParams,
    InvalidFieldError,
    read_fields,
    resolve,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """Everything that the scheduler and the sampler need to know."""

    record: FamilyRecord
    mask_id: int
    canvas_length: int
    """The served block length; the widest canvas of any request."""
    defaults: DecodeParams
    medium: DecodeParams
    """What the effort ``medium`` is: the defaults without the server's own effort."""

    def resolved(self, fields: Mapping[str, Any]) -> DecodeParams:
        """The decode parameters of a request whose fields have been read.

        Raises:
            InvalidFieldError: they do not go together, or mean nothing here.
        """
        # Levels are the server's, not relative to the one that it has chosen.
        base = self.medium if "effort" in fields else self.defaults
        return resolve(base, fields, prefix=PREFIX, record=self.record)


def make_plan(
    record: FamilyRecord,
    *,
    mask_id: int | None,
    block_length: int | None,
    vocab_size: int,
    generation: Mapping[str, Any],
    options: Mapping[str, Any],
    canvas_length: int | None = None,
    max_denoising_steps: int | None = None,
    preset: str | None = None,
) -> DecodePlan:
    """Resolve the plan of a checkpoint.

    Args:
        record: the architecture's record.
        mask_id: the checkpoint's mask token id.
        block_length: the block length in the checkpoint's config.
        vocab_size: rows of its embedding.
        generation: its ``generation_config.json``.
        options: ``diffusion`` of ``--additional-config``.
        canvas_length: of ``--diffusion-config``.
        max_denoising_steps: of ``--diffusion-config``.
        preset: what the checkpoint was trained for, a key of ``PRESETS``.

    Raises:
        InvalidFieldError: a server option that is unknown or out of range.
        ValueError: a checkpoint's config that lacks what decoding needs.
    """
    if mask_id is None:
        raise ValueError(
            f"config.json of this {record.architecture} has no mask_token_id, without which "
            "nothing can be denoised; add the id of the tokenizer's mask token"
        )
    if not 0 <= mask_id < vocab_size:
        raise ValueError(f"mask_token_id={mask_id} is outside of the vocabulary of {vocab_size}")
    server = read_fields(options, prefix="")
    if canvas_length is not None:
        given = server.setdefault("block_length", canvas_length)
        if given != canvas_length:
            raise InvalidFieldError(
                "block_length", given, f"--diffusion-config says canvas_length {canvas_length}"
            )
    if max_denoising_steps is not None:
        given = server.setdefault("max_steps", max_denoising_steps)
        if given != max_denoising_steps:
            raise InvalidFieldError(
                "max_steps",
                given,
                f"--diffusion-config says max_denoising_steps {max_denoising_steps}",
            )
    shipped = read_fields(generation, prefix=PREFIX)
    shipped_length = shipped.pop("block_length", block_length or record.default_block_length)
    served = server.pop("block_length", shipped_length)
    if served is None:
        raise ValueError(
            f"config.json of this {record.architecture} has no block_size; say it with "
            "--diffusion-config '{\"canvas_length\": N}'"
        )
    low, high = record.block_lengths
    if not low <= served <= high:
        raise InvalidFieldError(
            "canvas_length", served, f"{record.title} has block lengths from {low} to {high}"
        )
    sub_block_length = record.sub_block_length or served
    base = DecodeParams(
        policy=record.default_policy,
        threshold=record.default_threshold,
        max_steps=served,
        block_length=served,
        sub_block_length=sub_block_length if served % sub_block_length == 0 else served,
    )
    if preset is not None:
        base = resolve(base, {"preset": preset}, prefix="", record=record)
    of_checkpoint = resolve(base, _without_effort(shipped), prefix=PREFIX, record=record)
    medium = resolve(of_checkpoint, _without_effort(server), prefix="", record=record)
    if "effort" not in server:
        of_checkpoint = resolve(base, shipped, prefix=PREFIX, record=record)
    return DecodePlan(
        record=record,
        mask_id=mask_id,
        canvas_length=served,
        defaults=resolve(of_checkpoint, server, prefix="", record=record),
        medium=medium,
    )


def _without_effort(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "effort"}
