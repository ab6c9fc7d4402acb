"""`Breaking`: breakpoints, watchpoints, and printing without stopping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from dbgvmm.gdb.channel import quoted
from dbgvmm.gdb.commands import GdbCommands
from dbgvmm.gdb.results import Breakpoint, as_list, parse_breakpoint

_ACCESS: Final = {
    "write": ("", "wpt", "hw watchpoint"),
    "read": ("-r ", "hw-rwpt", "read watchpoint"),
    "access": ("-a ", "hw-awpt", "acc watchpoint"),
}


class Breaking(GdbCommands):
    """Where the guest is to stop. A location is what gdb takes ("kmain", "main.c:20"), or an address as a number.

    gdb carries out `commands` of a breakpoint after it has reported the stop: what must not stop is a dprintf's work.
    """

    def break_at(
        self, location: str | int, *, condition: str = "", temporary: bool = False, hardware: bool = False, ignore: int = 0
    ) -> Breakpoint:
        """A breakpoint. `condition` is evaluated by the stub, without a stop. `ignore`: how many hits do not count.

        A function that was inlined has several places, where gdb often cannot find a condition's variables: it then stops
        and says so in the stop's `output`. "*function" is its one own place, and registers are always there.

        Before the guest has loaded or mapped its code, or where it unpacks itself, `hardware` says what is meant, although
        no breakpoint changes the guest's memory.
        """
        options = ("-t " if temporary else "") + ("-h " if hardware else "")
        options += f"-c {quoted(condition)} " if condition else ""
        options += f"-i {ignore} " if ignore else ""
        answer = self.mi(f"-break-insert {options}{quoted(_place(location))}")
        return parse_breakpoint(answer.fields["bkpt"])

    def watch(
        self, expression: str, access: Literal["write", "read", "access"] = "write", *, condition: str = ""
    ) -> Breakpoint:
        """A watchpoint on a variable, or on any memory by an expression ("*(int *) 0x1000").

        "write" stops where the value changes, "read" and "access" at each access.
        """
        option, key, kind = _ACCESS[access]
        number = int(self.mi(f"-break-watch {option}{quoted(expression)}").fields[key]["number"])
        if condition:
            self.mi(f"-break-condition {number} {quoted(condition)}")
        return Breakpoint(number, kind, what=expression, condition=condition)

    def dprintf(self, location: str | int, format: str, *arguments: str, condition: str = "") -> Breakpoint:
        """Print `format` with the values of `arguments` whenever the guest comes there, without a stop.

        The lines are in the `output` of the next stop. The stub prints (gdb's `dprintf-style agent`), so the formats are
        those of C with integers and strings. gdb joins points at one address: a condition holds only if each of them has one.
        """
        option = f"-c {quoted(condition)} " if condition else ""
        words = " ".join(quoted(argument) for argument in arguments)
        answer = self.mi(f"-dprintf-insert {option}{quoted(_place(location))} {quoted(format)} {words}")
        return parse_breakpoint(answer.fields["bkpt"])

    def breakpoints(self) -> Sequence[Breakpoint]:
        """All of them, with how often each was hit."""
        table = self.mi("-break-list").fields["BreakpointTable"]
        return [parse_breakpoint(fields) for fields in as_list(table.get("body"))]

    def delete(self, *points: Breakpoint | int) -> None:
        """Remove these, or all if none is given."""
        numbers = (point.number if isinstance(point, Breakpoint) else point for point in points)
        self.mi(" ".join(("-break-delete", *map(str, numbers))))

    def enable(self, point: Breakpoint | int, on: bool = True) -> None:
        """Turn a breakpoint on, or off."""
        number = point.number if isinstance(point, Breakpoint) else point
        self.mi(f"-break-{'enable' if on else 'disable'} {number}")


def _place(location: str | int) -> str:
    return f"*{location:#x}" if isinstance(location, int) else location
