"""Grey pictures of a scan, at the patient's proportions, with marks and letters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = Image.Image
Colour = tuple[int, int, int]

BACKGROUND: Colour = (17, 17, 17)
INK: Colour = (225, 225, 225)
FAINT: Colour = (140, 140, 140)
POSITIVE: Colour = (90, 220, 110)
NEGATIVE: Colour = (240, 110, 90)
GAP = 8
TEXT = 13


@dataclass(frozen=True)
class Mark:
    """A ring on a picture, in its pixels."""

    x: float
    y: float
    radius: float
    colour: Colour


def grey(unit_YX: NDArray[np.float32], size: tuple[int, int]) -> Picture:
    """Values in [0, 1] as a picture of (width, height) pixels."""
    bytes_YX = (np.clip(unit_YX, 0.0, 1.0) * 255).astype(np.uint8)
    return Image.fromarray(bytes_YX).resize(size, Image.Resampling.BILINEAR).convert("RGB")


def marked(picture: Picture, marks: Sequence[Mark], edges: Sequence[str] = ()) -> Picture:
    """Rings on a copy, and a letter at its left, right, upper and lower edge."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    for mark in marks:
        box = (mark.x - mark.radius, mark.y - mark.radius, mark.x + mark.radius, mark.y + mark.radius)
        draw.ellipse(box, outline=mark.colour, width=2)
    width, height = picture.size
    places = ((3, height / 2, "lm"), (width - 3, height / 2, "rm"), (width / 2, 2, "ma"), (width / 2, height - 2, "md"))
    for letter, (x, y, anchor) in zip(edges, places, strict=False):
        draw.text((x, y), letter, fill=INK, font=_font(), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return picture


def framed(picture: Picture, colour: Colour) -> Picture:
    """With a border."""
    bordered = Image.new("RGB", (picture.width + 4, picture.height + 4), colour)
    bordered.paste(picture, (2, 2))
    return bordered


def row(pictures: Sequence[Picture]) -> Picture:
    """Side by side, tops aligned."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    made = Image.new("RGB", (max(width, 1), max(picture.height for picture in pictures)), BACKGROUND)
    x = 0
    for picture in pictures:
        made.paste(picture, (x, 0))
        x += picture.width + GAP
    return made


def column(pictures: Sequence[Picture]) -> Picture:
    """One below the other, with a margin around."""
    width, height = max(p.width for p in pictures), sum(p.height for p in pictures) + GAP * (len(pictures) - 1)
    made = Image.new("RGB", (width + 2 * GAP, height + 2 * GAP), BACKGROUND)
    y = GAP
    for picture in pictures:
        made.paste(picture, (GAP, y))
        y += picture.height + GAP
    return made


def line(text: str, *, colour: Colour = INK) -> Picture:
    """A line of text."""
    left, _, right, bottom = _font().getbbox(text)
    made = Image.new("RGB", (int(right - left) + 2, int(bottom) + 3), BACKGROUND)
    ImageDraw.Draw(made).text((0, 0), text, fill=colour, font=_font())
    return made


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=TEXT)
