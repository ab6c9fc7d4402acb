"""Which file formats there are, and writing them: the format is known by the file's name, or said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from dbgvmm.profile.flame_svg import FlameOptions, flame_svg
from dbgvmm.profile.folded import folded
from dbgvmm.profile.profile import Profile
from dbgvmm.profile.speedscope import speedscope

FormatName = Literal["folded", "speedscope", "pprof", "svg"]
_SUFFIXES: Final[dict[str, FormatName]] = {
    ".folded": "folded", ".txt": "folded", ".collapsed": "folded", ".json": "speedscope", ".pb.gz": "pprof", ".pprof": "pprof",
    ".svg": "svg",
}  # fmt: skip


class UnknownFormat(ValueError):
    """A file's name does not tell the format. The message is one line that says what to do."""


def format_of(path: Path) -> FormatName:
    """The format that a file's name stands for. Raises UnknownFormat."""
    for suffix, name in _SUFFIXES.items():
        if path.name.endswith(suffix):
            return name
    raise UnknownFormat(f"{path}: the format is not clear; end the name with {', '.join(_SUFFIXES)}, or give --format")


def exported(profile: Profile, name: FormatName, title: str = "dbgvmm") -> bytes:
    """A profile in a format. title: what speedscope and the flame graph call it."""
    writers: dict[FormatName, Callable[[], bytes]] = {
        "folded": lambda: folded(profile),
        "speedscope": lambda: speedscope(profile, title),
        "pprof": lambda: _pprof(profile),
        "svg": lambda: flame_svg(profile, FlameOptions(title)),
    }
    return writers[name]()


def _pprof(profile: Profile) -> bytes:
    from dbgvmm.profile.pprof import pprof  # only who writes the format needs the protobuf library: it takes 40 ms to load

    return pprof(profile)


__all__ = ["FormatName", "UnknownFormat", "exported", "format_of"]
