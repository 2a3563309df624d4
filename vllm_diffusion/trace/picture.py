"""A trace as a moving picture: a frame a step, the last one longer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from vllm_diffusion.trace.record import Piece, Trace

WIDTH, MARGIN, SIZE, LEADING = 760, 16, 17, 27
STEP_MS, LAST_MS = 320, 2500
PAPER, INK = (250, 250, 250), (27, 27, 31)
COLORS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int] | None]] = {
    "masked": ((150, 150, 162), None),
    "accepted": ((10, 107, 54), (211, 245, 223)),
    "edited": ((138, 61, 0), (255, 230, 207)),
    "given": ((31, 79, 163), (223, 233, 255)),
}
"""Ink and paper by state; others are plain."""


Placed = tuple[float, int, str, str]
"""Left, line, what is drawn, state."""


def _place(pieces: list[Piece], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[Placed]:
    """Where each piece goes; lines end where the text has a break, or at the margin."""
    placed: list[Placed] = []
    x, line = float(MARGIN), 0
    for piece in pieces:
        for number, part in enumerate(piece.text.split("\n")):
            if number:
                x, line = float(MARGIN), line + 1
            if not part:
                continue
            width = font.getlength(part)
            if x + width > WIDTH - MARGIN and x > MARGIN:
                x, line = float(MARGIN), line + 1
            placed.append((x, line, part, piece.state))
            x += width
    return placed


def save_picture(trace: Trace, path: Path) -> None:
    """Write the picture; its height is that of the longest step."""
    font = ImageFont.load_default(SIZE)
    steps = [_place(step, font) for step in trace.steps] or [[]]
    num_lines = 1 + max((line for step in steps for _, line, _, _ in step), default=0)
    height = 2 * MARGIN + LEADING * num_lines
    pictures = []
    for step in steps:
        picture = Image.new("RGB", (WIDTH, height), PAPER)
        draw = ImageDraw.Draw(picture)
        for x, line, part, state in step:
            ink, paper = COLORS.get(state, (INK, None))
            y = MARGIN + line * LEADING
            if paper is not None:
                draw.rectangle((x, y, x + font.getlength(part), y + LEADING - 5), fill=paper)
            draw.text((x, y), part, fill=ink, font=font)
        pictures.append(picture)
    durations = [STEP_MS] * (len(pictures) - 1) + [LAST_MS]
    first, *rest = pictures
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0)
