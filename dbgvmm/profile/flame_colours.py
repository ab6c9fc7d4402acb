"""Colours of frames: whose code it is decides the hue, the name a shade, so that a function looks the same everywhere."""

from __future__ import annotations

from colorsys import hls_to_rgb
from typing import Final
from zlib import crc32

from dbgvmm.profile.profile import Frame, FrameKind

_HUES: Final[dict[FrameKind, tuple[float, float, float]]] = {
    "kernel": (22, 18, 0.86),
    "user": (205, 22, 0.68),
    "monitor": (282, 14, 0.52),
    "task": (220, 8, 0.10),
}
"""By kind: hue in degrees, by how much it varies to both sides, saturation."""
LEGEND: Final[dict[FrameKind, str]] = {
    "kernel": "kernel", "user": "user", "monitor": "VMM (the monitor)", "task": "task",
}  # fmt: skip


def colour(frame: Frame) -> str:
    """#rrggbb, light enough for dark text."""
    hue, spread, saturation = _HUES[frame.kind]
    shade = crc32(frame.name.encode("utf-8", "replace"))
    return _hex(hue + spread * ((shade & 0xFF) / 127.5 - 1), 0.70 + 0.10 * ((shade >> 8 & 0xFF) / 255), saturation)


def plain_colour(kind: FrameKind) -> str:
    """The middle of a kind's colours."""
    hue, _, saturation = _HUES[kind]
    return _hex(hue, 0.74, saturation)


def difference_colour(grown: float) -> str:
    """Red for what has grown (1: most), blue for what has shrunk (-1), grey for what is as it was."""
    strength = min(1.0, abs(grown))
    return _hex(4 if grown > 0 else 212, 0.90 - 0.28 * strength, 0.85 if strength else 0.0)


def _hex(hue: float, lightness: float, saturation: float) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue % 360 / 360, lightness, saturation))


__all__ = ["LEGEND", "colour", "difference_colour", "plain_colour"]
