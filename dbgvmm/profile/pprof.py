"""pprof's file format: `go tool pprof FILE`, and what else reads profile.proto.

Each sample has four values: how many samples, guest instructions, guest nanoseconds, and nanoseconds of the monitor. The
monitor's are samples of their own, whose innermost location is the mechanism. The task is a label.
"""

from __future__ import annotations

import gzip
from typing import Any, Final

from dbgvmm.profile.pprof_schema import profile_class
from dbgvmm.profile.profile import Frame, FrameKind, Profile, ProfileStack, monitor_frame

SAMPLE_TYPES: Final = (
    ("samples", "count"), ("instructions", "count"), ("guest", "nanoseconds"), ("monitor", "nanoseconds"),
)  # fmt: skip
_MAPPINGS: Final[dict[FrameKind, str]] = {"kernel": "[kernel]", "user": "[user]", "monitor": "[vmm]"}
_GZIP_LEVEL: Final = 9


def pprof(profile: Profile) -> bytes:
    """The file's content, compressed; the same for the same profile."""
    return gzip.compress(_Writer(profile).message.SerializeToString(deterministic=True), _GZIP_LEVEL, mtime=0)


class _Writer:
    """Puts a profile into pprof's tables, in which everything has a number from 1 on."""

    def __init__(self, profile: Profile) -> None:
        self.message: Any = profile_class()()
        self._strings: dict[str, int] = {}
        self._functions: dict[Frame, int] = {}
        self._locations: dict[tuple[Frame, int], int] = {}
        self._mappings: dict[FrameKind, int] = {}
        self._string("")
        for kind, unit in SAMPLE_TYPES:
            self.message.sample_type.add(type=self._string(kind), unit=self._string(unit))
        self.message.default_sample_type = self._string("instructions")
        self.message.period_type.type = self._string("instructions")
        self.message.period_type.unit = self._string("count")
        self.message.period = profile.period
        self.message.duration_nanos = profile.guest_ns(profile.instructions)
        for stack in profile.stacks:
            self._stack(profile, stack)
        self.message.string_table.extend(self._strings)

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text.encode("utf-8", "replace").decode(), len(self._strings))

    def _stack(self, profile: Profile, stack: ProfileStack) -> None:
        locations = [
            self._location(frame, address)
            for frame, address in zip(reversed(stack.frames), reversed(stack.addresses), strict=True)
            if frame.kind != "task" or len(stack.frames) == 1
        ]
        self._sample(locations, stack, (stack.samples, stack.instructions, profile.guest_ns(stack.instructions), 0))
        for mechanism, ns in sorted(stack.monitor_ns.items()):
            self._sample([self._location(monitor_frame(mechanism), 0), *locations], stack, (0, 0, 0, ns))

    def _sample(self, locations: list[int], stack: ProfileStack, values: tuple[int, ...]) -> None:
        sample = self.message.sample.add(location_id=locations, value=values)
        if stack.task:
            sample.label.add(key=self._string("task"), str=self._string(stack.task))

    def _location(self, frame: Frame, address: int) -> int:
        known = self._locations.get((frame, address))
        if known is None:
            known = self._locations[frame, address] = len(self._locations) + 1
            location = self.message.location.add(id=known, address=address)
            location.line.add(function_id=self._function(frame))
            if frame.kind in _MAPPINGS:
                location.mapping_id = self._mapping(frame.kind)
        return known

    def _function(self, frame: Frame) -> int:
        known = self._functions.get(frame)
        if known is None:
            known = self._functions[frame] = len(self._functions) + 1
            name = self._string(frame.name)
            self.message.function.add(id=known, name=name, system_name=name)
        return known

    def _mapping(self, kind: FrameKind) -> int:
        known = self._mappings.get(kind)
        if known is None:
            known = self._mappings[kind] = len(self._mappings) + 1
            self.message.mapping.add(id=known, filename=self._string(_MAPPINGS[kind]), has_functions=True)
        return known


__all__ = ["SAMPLE_TYPES", "pprof"]
