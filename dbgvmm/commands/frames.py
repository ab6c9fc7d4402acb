"""The selected frame of the stack: `frame`, `up`, `down`, `info frame`."""

from __future__ import annotations

from dataclasses import dataclass

from dbgvmm.commands.backtrace import FrameRow, frame_row
from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Count, Value
from dbgvmm.commands.run_control import SourceAt, source_at
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.unwind import StackFrame

_ONE = Count(1)
_NEXT = 2
"""One frame more is looked for, to say where a frame returns to."""


@dataclass(frozen=True)
class SelectedFrame:
    """The frame that is selected now. source: the line that it is at, if that is known."""

    frame: FrameRow
    source: SourceAt | None

    def __str__(self) -> str:
        x = self.frame
        first = f"#{x.level}  {x.pc:#x}{' user' if x.user else ''} {f'<{x.symbol}>' if x.symbol else '??'}"
        return first if self.source is None else f"{first}\n   {self.source}"


@dataclass(frozen=True)
class FrameDetails:
    """All that is known of the selected frame. registers: RIP and general registers, as far as they are known there.

    caller: the frame that it returns to; end: why there is none that is known.
    """

    selected: SelectedFrame
    registers: dict[str, int]
    caller: FrameRow | None
    end: str

    def __str__(self) -> str:
        found = f"found by {self.selected.frame.how}" if self.selected.frame.level else "the CPU stands in it"
        names = list(self.registers)
        rows = [[f"{name:<3} {self.registers[name]:016x}" for name in names[at : at + 4]] for at in range(0, len(names), 4)]
        x = self.caller
        back = self.end if x is None else f"called from #{x.level}  {x.pc:#x}{f' <{x.symbol}>' if x.symbol else ''}"
        return f"{self.selected}\n{found}\n{columns(rows)}\n{back}"


@command("frame", aliases=("f",))
def frame(session: Session, level: Value | None = None) -> SelectedFrame:
    """Select the frame of that LEVEL in `backtrace`, or show the one that is selected.

    Until the guest goes on, $rip, $rsp and the other general registers in expressions are that frame's, as far as they are
    known there, and `list`, `info line`, `disassemble` and `break` without a place mean where it is. Frame 0 is the CPU's.

    For example:

        frame 2
        frame
    """
    if level is not None:
        _select(session, level)
    return _selected(session)


@command("up", repeats=True)
def up(session: Session, count: Count = _ONE) -> SelectedFrame:
    """Select the frame that called the selected one, or COUNT frames further out.

    For example:

        up
        up 2
    """
    now = _level(session)
    found = session.machine.unwinder.frames(now + count + 1)
    if len(found) == now + 1:
        raise CommandError(f"frame {now} is the outermost one that is known: {found.end}")
    session.frame = found[min(now + count, len(found) - 1)]
    return _selected(session)


@command("down", repeats=True)
def down(session: Session, count: Count = _ONE) -> SelectedFrame:
    """Select the frame that the selected one has called, or COUNT frames further in.

    For example:

        down
        down 2
    """
    now = _level(session)
    if not now:
        raise CommandError("frame 0 is the innermost one: `up` selects its caller")
    _select(session, max(now - count, 0))
    return _selected(session)


@command("info frame", aliases=("info f",))
def info_frame(session: Session) -> FrameDetails:
    """Show the selected frame, what is known of its registers, and where it returns to.

    For example:

        info frame
    """
    found = session.machine.unwinder.frames(_level(session) + _NEXT)
    level = _level(session)
    caller = frame_row(session, found[level + 1]) if len(found) > level + 1 else None
    return FrameDetails(_selected(session), dict(found[level].registers), caller, found.end)


def _level(session: Session) -> int:
    session.machine.os_finder.recognise()
    selected = session.frame
    return 0 if selected is None else selected.level


def _select(session: Session, level: int) -> None:
    """Raises CommandError."""
    session.machine.os_finder.recognise()
    found = session.machine.unwinder.frames(level + 1)
    if level >= len(found):
        raise CommandError(f"there is no frame {level}: the last one is {len(found) - 1} ({found.end})")
    session.frame = found[level]


def _selected(session: Session) -> SelectedFrame:
    selected = session.frame
    found: StackFrame = session.machine.unwinder.frames(1)[0] if selected is None else selected
    return SelectedFrame(frame_row(session, found), source_at(session, found.place))
