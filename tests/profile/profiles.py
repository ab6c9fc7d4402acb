"""A profile made by hand, in which everything has a known place: hostile names included."""

from __future__ import annotations

from fractions import Fraction

from dbgvmm.profile.profile import Frame, Profile, ProfileStack

HOSTILE = 'a<b>&"c\';d\ne\x00f\x1b]]>--'
MAIN, SHELL = Frame("main", "user"), Frame("sh-7", "task")
READ, COPY, IRQ = Frame("sys_read", "kernel"), Frame("copy_to_user", "kernel"), Frame(HOSTILE, "kernel")


def stack(
    frames: tuple[Frame, ...], instructions: int, monitor: dict[str, int] | None = None, samples: int = 1
) -> ProfileStack:
    """One stack; a frame's address is its place in the stack."""
    task = frames[0].name if frames[0].kind == "task" else ""
    addresses = tuple(0 if frame.kind == "task" else 0x1000 * (at + 1) for at, frame in enumerate(frames))
    return ProfileStack(frames, addresses, task, samples, instructions, monitor or {})


def small_profile() -> Profile:
    """600 instructions in sh, of which 400 in the kernel; 200 in the kernel alone; 3000 ns of the monitor."""
    stacks = (
        stack((SHELL, MAIN), 200, samples=2),
        stack((SHELL, MAIN, READ, COPY), 300, {"hidden": 1000}),
        stack((SHELL, MAIN, READ), 100),
        stack((READ, IRQ), 400, {"port": 1500, "translation": 500}),
    )
    return Profile(stacks, ((0, 150), (3, 400), (1, 300), (0, 50), (2, 100)), 100, Fraction(10))
