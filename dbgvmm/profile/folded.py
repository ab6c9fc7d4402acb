"""Folded stacks: a line for each stack, `outermost;...;innermost WEIGHT`, as Brendan Gregg's flamegraph.pl reads them.

Kernel functions have his `_[k]` behind their names. Weights are guest instructions, or nanoseconds of the monitor with
the mechanism as the innermost frame.
"""

from __future__ import annotations

from dbgvmm.profile.profile import Frame, Measure, Profile, weighed


def folded(profile: Profile, measure: Measure = "guest") -> bytes:
    """The lines, sorted, in UTF-8."""
    merged: dict[str, int] = {}
    for frames, weight in weighed(profile, measure):
        line = ";".join(map(_word, frames))
        merged[line] = merged.get(line, 0) + weight
    return "".join(f"{line} {weight}\n" for line, weight in sorted(merged.items())).encode("utf-8", "replace")


def _word(frame: Frame) -> str:
    """A frame's name without what separates frames and lines."""
    name = "".join(
        ":" if character == ";" else character if character.isprintable() else "?" for character in frame.name
    )
    return f"{name}_[k]" if frame.kind == "kernel" else name


__all__ = ["folded"]
