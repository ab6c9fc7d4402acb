"""`Session`: what commands work on, and the little that they remember from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from dbgvmm.commands.errors import CommandError
from dbgvmm.debug.expressions import Names, Values
from dbgvmm.debug.numbered import NumberedPoints
from dbgvmm.debug.registers import REGISTERS
from dbgvmm.debug.source_steps import SourceSteps
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols import Symbols, SymbolTable
from dbgvmm.debug.symbols.source_files import SourceFiles
from dbgvmm.debug.unwind import StackFrame
from dbgvmm.guest_os import SystemSymbols
from dbgvmm.machine import Machine

if TYPE_CHECKING:
    from dbgvmm.commands.table import AnyCommand, CommandTable


@dataclass(frozen=True)
class Display:
    """An expression that is shown at each stop. fmt: that of print, or of x for memory."""

    text: str
    fmt: str
    enabled: bool = True


@dataclass
class Settings:
    """How things are shown at a terminal."""

    pagination: bool = True
    colour: bool = True


class RunFunction(Protocol):
    """Runs the machine as `Machine.run` does; a front end's also looks after the serial line and gdb meanwhile."""

    def __call__(self, *, steps: int | None = None, max_count: int | None = None) -> Stop: ...


class OpenScreen(Protocol):
    """A terminal while a command has it."""

    def draw(self, text: str) -> None:
        """Show `text` and nothing else."""

    def key(self) -> str:
        """A key that was pressed, "" if none."""


class Screen(Protocol):
    """A terminal that can be had."""

    def open(self) -> AbstractContextManager[OpenScreen]:
        """Have it."""


class Session:
    """One person's (or script's) view of a machine.

    symbols: added to those that the machine knows. run: how to run it, `machine.run` unless a front end has something to
    look after meanwhile. as_qemu: commands that QEMU's monitor has too show what that shows, since gdb's users have
    scripts that read it. table: its commands; all there are, unless a front end has its own.
    """

    def __init__(
        self, machine: Machine, symbols: SymbolTable | None = None, run: RunFunction | None = None, *, as_qemu: bool = False,
        table: CommandTable | None = None,
    ) -> None:
        self.machine = machine
        self.as_qemu = as_qemu
        if symbols is not None:
            machine.symbols.add(symbols)
        self.values = Values()
        self.sources = SourceFiles()
        """Source files that were looked at."""
        self._frame: tuple[StackFrame, tuple[int, ...]] | None = None
        self.displays: dict[int, Display] = {}
        self.next_display = 1
        self.settings = Settings()
        self.sourcing = 0
        """How many `source` commands are at work, one in the other."""
        self.busy = False
        """A front end runs a command."""
        self.interrupted = False
        """Ctrl-C was pressed meanwhile: a command that takes long looks at it."""
        self.examined_format = ("x", "w")
        self.examined_to = 0
        self.show: Callable[[str], None] | None = None
        """Where a command that takes long shows what it has so far; None: people see only its result."""
        self.screen: Screen | None = None
        """A terminal that a command may draw on while the guest runs."""
        self._run: RunFunction = run or machine.run
        if table is not None:
            self.table = table
        self.python_prompt: Callable[[dict[str, Any]], None] | None = None
        """Reads Python from a person, with these names; None where there is none."""
        self.shows_output = True
        """What Python code prints is seen as it comes; else it belongs to the command's result."""
        self.host_access = True
        """Whoever types may run code and read files on the host."""
        self.loaded: dict[str, tuple[AnyCommand, ...]] = {}
        """The commands that came from files, by the file's name."""

    @cached_property
    def table(self) -> CommandTable:
        """The commands of this session: files may add theirs."""
        from dbgvmm.commands import command_table  # which needs this module

        return command_table()

    def command(self, line: str) -> Any:
        """Run a command line as it is typed, and return its data (None for an empty line). Raises CommandError.

        A command's own function says which type it returns: `info_tc(session)` is `session.command("info tc")`, typed.
        """
        return self.table.execute(self, line)

    @cached_property
    def namespace(self) -> dict[str, Any]:
        """The names of `py`: what it assigns stays."""
        return {"__name__": "__py__", "machine": self.machine, "session": self}

    @property
    def names(self) -> Names:
        """What names mean in expressions."""
        return Names(self.system_symbols, self.values)

    @property
    def names_here(self) -> Names:
        """The same for what a person asks now: general registers are those of the selected frame."""
        return Names(self.system_symbols, self.values, self.frame)

    @property
    def frame(self) -> StackFrame | None:
        """The frame that a person has selected, until the guest goes on; None: the one that the CPU stands in."""
        if self._frame is None or self._frame[1] != self._standing():
            return None
        return self._frame[0]

    @frame.setter
    def frame(self, frame: StackFrame) -> None:
        self._frame = (frame, self._standing()) if frame.level else None

    @property
    def pc(self) -> int:
        """Where the selected frame goes on: of the CPU's own, the next instruction."""
        frame = self.frame
        return self.machine.cpu.rip if frame is None else frame.pc

    @property
    def place(self) -> int:
        """An address in the instruction that the selected frame is at, to be looked up: of a caller, in its call."""
        frame = self.frame
        return self.machine.cpu.rip if frame is None else frame.place

    def _standing(self) -> tuple[int, ...]:
        """What a selected frame depends on."""
        cpu = self.machine.cpu
        return self.machine.count, cpu.rip, cpu.cr3, *(cpu.gpr[index] for index in range(len(cpu.gpr)))

    @property
    def points(self) -> NumberedPoints:
        """The machine's breakpoints, watchpoints and catchpoints that have a number."""
        return self.machine.numbered

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Commands show nothing before their result."""
        saved = self.show, self.screen
        self.show = self.screen = None
        try:
            yield
        finally:
            self.show, self.screen = saved

    def check_interrupt(self) -> None:
        """Commands that take long call this now and then. Raises CommandError if Ctrl-C was pressed."""
        if self.interrupted:
            self.interrupted = False
            raise CommandError("interrupted by Ctrl-C")

    @property
    def symbols(self) -> Symbols:
        """The machine's."""
        return self.machine.symbols

    @property
    def system_symbols(self) -> SystemSymbols:
        """The same; the guest's system is looked for if it may know more."""
        return SystemSymbols(self.symbols, self.machine.os_finder, REGISTERS.__contains__)

    def run_with(self, run: RunFunction) -> None:
        """Run the machine so from now on."""
        self._run = run

    def run(self, *, steps: int | None = None, max_count: int | None = None) -> Stop:
        """Run the machine until it stops. Raises CommandError when the guest has ended."""
        last = self.machine.last_stop
        if last is not None and last.kind.final and last.kind is not StopKind.HALT:
            raise CommandError(f"{last.text}: there is nothing to continue; `restart` begins again")
        return self._run(steps=steps, max_count=max_count)

    @property
    def steps(self) -> SourceSteps:
        """Steps by line, and out of functions."""
        return SourceSteps(self.machine, self.run)

    def name(self, address: int) -> str:
        """ "0x106000 <kmain>", or the number alone for an address without a symbol."""
        symbol = self.symbols.describe(address)
        return f"{address:#x} <{symbol}>" if symbol else f"{address:#x}"
