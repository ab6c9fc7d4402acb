"""speedscope's file format: JSON that opens at https://www.speedscope.app or in the same program on this machine.

Source: https://www.speedscope.app/file-format-schema.json. There are two profiles in a file: guest time, in the order of
time, and the monitor's time, by stack and mechanism.
"""

from __future__ import annotations

import json
from typing import Final

from dbgvmm.profile.profile import Frame, Profile, weighed
from dbgvmm.version import VERSION

SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
_KINDS: Final = {"task": "", "user": "user", "kernel": "kernel", "monitor": "monitor"}


class _Frames:
    """The table of frames, which all profiles of a file share."""

    def __init__(self) -> None:
        self._numbers: dict[Frame, int] = {}

    def numbers(self, frames: tuple[Frame, ...]) -> list[int]:
        return [self._numbers.setdefault(frame, len(self._numbers)) for frame in frames]

    def table(self) -> list[dict[str, str]]:
        """`file` is what speedscope colours and groups by: here, whose code it is."""
        return [
            {"name": frame.name, "file": _KINDS[frame.kind]} if _KINDS[frame.kind] else {"name": frame.name}
            for frame in self._numbers
        ]


def speedscope(profile: Profile, name: str = "dbgvmm") -> bytes:
    """The file's content."""
    frames = _Frames()
    numbers = [frames.numbers(stack.frames) for stack in profile.stacks]
    left = [stack.instructions for stack in profile.stacks]
    guest: list[tuple[list[int], int]] = []
    for stack, instructions in profile.order:
        guest.append((numbers[stack], profile.guest_ns(instructions)))
        left[stack] -= instructions
    guest += [(numbers[at], profile.guest_ns(rest)) for at, rest in enumerate(left) if rest]
    monitor = [(frames.numbers(stack), ns) for stack, ns in weighed(profile, "monitor")]
    profiles = [_sampled(f"{name}: guest time", guest)]
    if monitor:
        profiles.append(_sampled(f"{name}: monitor time (host)", monitor))
    content = {
        "$schema": SCHEMA,
        "name": name,
        "exporter": f"dbgvmm {VERSION}",
        "activeProfileIndex": 0,
        "shared": {"frames": frames.table()},
        "profiles": profiles,
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _sampled(name: str, samples: list[tuple[list[int], int]]) -> dict[str, object]:
    weights = [weight for _, weight in samples]
    return {
        "type": "sampled",
        "name": name,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": [stack for stack, _ in samples],
        "weights": weights,
    }


__all__ = ["SCHEMA", "speedscope"]
