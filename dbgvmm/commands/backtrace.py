"""Where the guest is: who called what, and which lines of source that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.expression import evaluate
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.symbols.line_unit import SourceLine
from dbgvmm.debug.symbols.source_files import SourceError
from dbgvmm.debug.unwind import StackFrame

_FRAMES: Final = Count(64)
_LINES_SHOWN: Final = Count(10)


@dataclass(frozen=True)
class FrameRow:
    """A frame. pc: where it goes on; symbol: that in words; file and line ("" and 0 if they are not known): of the call.

    sp: RSP there. how: what found it. user: it runs at CPL 3.
    """

    level: int
    pc: int
    symbol: str
    file: str
    line: int
    sp: int
    how: str
    user: bool


@dataclass(frozen=True)
class BacktraceReport:
    """Frames, innermost first. end: why there are no more; complete: because it is the outermost. with_how: shown too."""

    frames: tuple[FrameRow, ...]
    end: str
    complete: bool
    with_how: bool

    def __str__(self) -> str:
        rows = []
        for frame in self.frames:
            symbol = f"<{frame.symbol}>" if frame.symbol else "??"
            where = f"{frame.file}:{frame.line}" if frame.line else ""
            how = f"by {frame.how}, rsp = {frame.sp:#x}" if self.with_how else ""
            rows.append((f"#{frame.level}", f"{frame.pc:#x}", "user" if frame.user else "", symbol, where, how))
        table = columns(rows)
        return table if self.complete and not self.with_how else f"{table}\n({self.end})"


@dataclass(frozen=True)
class LineReport:
    """Stretches of code that come from lines of source. symbols: what begins or covers the start of each."""

    lines: tuple[SourceLine, ...]
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        rows = []
        for line, symbol in zip(self.lines, self.symbols, strict=True):
            place = f"{line.start:#x}" + (f" <{symbol}>" if symbol else "")
            extent = f"up to {line.end:#x}" if line.end > line.start else "but has no code of its own"
            rows.append(f"line {line.line} of {line.file} is at {place} {extent} ({line.path})")
        return "\n".join(rows)


@dataclass(frozen=True)
class SourceText:
    """Lines of a source file. first: the number of the first one; current: the one that was asked for."""

    file: str
    path: str
    first: int
    current: int
    text: tuple[str, ...]

    def __str__(self) -> str:
        numbered = enumerate(self.text, self.first)
        return "\n".join(
            f"{'=>' if number == self.current else '  '} {number:<5} {line}".rstrip() for number, line in numbered
        )


@command("backtrace", aliases=("bt", "where"))
def backtrace(session: Session, count: Count = _FRAMES, *, how: bool = False) -> BacktraceReport:
    """Show who called the code that the CPU stands in, COUNT (64) frames at most.

    Each frame is found by what is known best there: call frame information (of ELF files with DWARF or .eh_frame), the ORC
    tables that Linux has in memory, calls on the stack, the frame that an interrupt has pushed, the frame pointer. It goes on
    from a handler into the code that was interrupted, and from the kernel's stack into the user's. --how shows what found
    each frame.

    For example:
        backtrace
        bt 5 --how
    """
    session.machine.os_finder.recognise()
    found = session.machine.unwinder.frames(count)
    return BacktraceReport(tuple(frame_row(session, frame) for frame in found), found.end, found.complete, how)


def frame_row(session: Session, frame: StackFrame) -> FrameRow:
    """A frame as it is shown."""
    symbols = session.symbols
    line = symbols.source_line(frame.place)
    covering = symbols.at(frame.place)
    name = ""
    if covering is not None:
        # Named after the call: behind a call that does not return, another function may begin.
        symbol = covering[0]
        offset = frame.pc - symbol.address
        name = f"{symbol.name}+{offset:#x}" if offset else symbol.name
    return FrameRow(
        frame.level, frame.pc, name, line.file if line else "", line.line if line else 0, frame.sp, frame.how, frame.user
    )


@command("info line")
def info_line(session: Session, place: str = "") -> LineReport:
    """Show which line the code at PLACE comes from, or where the code of a line is.

    PLACE is an address, a symbol, or FILE:LINE; without one, where the selected frame is. If a line has no code, the next
    one that has some is shown.

    For example:
        info line $rip
        info line hello.c:9
    """
    lines = _lines(session, place)
    return LineReport(lines, tuple(session.symbols.describe(line.start) for line in lines))


def _lines(session: Session, place: str) -> tuple[SourceLine, ...]:
    file, colon, number = place.rpartition(":")
    if colon and number.isascii() and number.isdecimal() and len(number) < 10:
        found = session.symbols.places(file, int(number))
        if not found:
            raise CommandError(f"no code is known of {place}: `info line FUNCTION` shows how files are called")
        return found
    address = evaluate(session, place) if place else session.place
    line = session.symbols.source_line(address)
    if line is None:
        raise CommandError(f"no line is known of {session.name(address)}: `symbols` shows which files are known")
    return (line,)


@command("list", aliases=("l",))
def list_source(session: Session, place: str = "", *, lines: Count = _LINES_SHOWN) -> SourceText:
    """Show the source around PLACE, an address, a symbol, or FILE:LINE; or around the selected frame.

    The file is read from where the compiler found it. --lines N: that many lines (10).

    For example:
        list
        list kmain --lines 30
        list hello.c:9
    """
    found = _lines(session, place)[0]
    try:
        text = session.sources.text(found)
        session.sources.line(found)
    except SourceError as error:
        raise CommandError(str(error)) from error
    first = max(1, found.line - (lines - 1) // 2)
    return SourceText(found.file, found.path, first, found.line, tuple(text[first - 1 : first - 1 + lines]))
