"""`Supervisor`: one machine and the people around it, from the first instruction to the last word.

One of them has the machine at a time: a gdb that is connected, else the REPL if there is one, else nobody, and then the
guest just runs. Ctrl-C stops a running guest; a second one, or one when it stands still, ends everything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, Protocol

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session
from dbgvmm.commands.output import pieces
from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.exit_status import ExitStatus
from dbgvmm.machine import Machine
from dbgvmm.outside import Outside

_ENDS: Final = frozenset((StopKind.LIMIT, StopKind.QUIT))
"""Kinds after which there is nothing to do, beside those that are `final`."""


class Repl(Protocol):
    """A front end for commands."""

    def interact(self) -> bool:
        """Take commands until the person leaves (True) or a debugger takes the machine (False)."""


@dataclass(frozen=True)
class Script:
    """Command lines of a file, and what to call it."""

    name: str
    lines: tuple[str, ...]


class ScriptError(Exception):
    """A command of a file failed. The message says where."""


class Supervisor:
    """Runs `machine`. `repl` makes a front end when one is wanted; `max_count`: stop after so many instructions."""

    def __init__(
        self,
        machine: Machine,
        table: CommandTable,
        outside: Outside,
        gdb: GdbServer | None = None,
        *,
        max_count: int | None = None,
        restart_on_reset: bool = False,
    ) -> None:
        self.machine = machine
        self.table = table
        self.outside = outside
        self.gdb = gdb
        self.session = Session(machine, run=self.run)
        self.session.show = lambda text: print(text, flush=True)
        self.make_repl: Callable[[], Repl] | None = None
        self.repl_wanted = False
        self._max_count = max_count
        self._restart_on_reset = restart_on_reset
        self._running = False
        self._interrupted = False

    # -- the loop

    def main(self, script: Script | None = None, *, wait: bool = False) -> Stop | None:
        """Run a script, then serve whoever has the machine until the run is over.

        wait: for a debugger, before that. Returns the last stop, None if nothing has run. Raises ScriptError.
        """
        try:
            with self._signals():
                if script is not None:
                    self._run_script(script)
                if wait and self.gdb is not None:
                    self.gdb.wait_for_debugger()
                return self._loop()
        except KeyboardInterrupt:
            return Stop(StopKind.INTERRUPT, "interrupted")
        except QuitRequest:
            return self.machine.last_stop

    def _loop(self) -> Stop | None:
        machine, gdb = self.machine, self.gdb
        repl: Repl | None = None
        while True:
            if gdb is not None:
                gdb.serve()
                if gdb.killed:
                    return Stop(StopKind.QUIT, "killed by the debugger")
            debugged = gdb is not None and gdb.attached
            if self.repl_wanted and not debugged and self.make_repl is not None:
                repl = repl or self.make_repl()
                if repl.interact() or self.left:
                    return machine.last_stop
                continue
            stop = machine.last_stop
            if not debugged and stop is not None and self._is_end(stop):
                return stop
            stop = gdb.run(self.run) if gdb is not None else self.run()
            if gdb is not None:
                if gdb.stopped_for_debugger(stop):
                    continue
                gdb.report(stop)
            if stop.kind is StopKind.QUIT:
                return stop
            if not (gdb is not None and gdb.attached) and not self.repl_wanted:
                return stop

    @staticmethod
    def _is_end(stop: Stop) -> bool:
        return stop.kind.final or stop.kind in _ENDS

    @property
    def left(self) -> bool:
        """The person has left from the keyboard while the guest ran."""
        stop = self.machine.last_stop
        return stop is not None and stop.kind is StopKind.QUIT

    # -- running

    def run(self, *, steps: int | None = None, max_count: int | None = None) -> Stop:
        """Run the machine with the terminal, signals and limits in place."""
        machine = self.machine
        limits = [limit for limit in (max_count, self._max_count) if limit is not None]
        sys.stdout.flush()
        self.outside.resume()
        self._running, self._interrupted = True, False
        try:
            stop = machine.run(steps=steps, max_count=min(limits, default=None))
            while stop.kind is StopKind.RESET and self._restart_on_reset:
                machine.restart()
                stop = machine.run(steps=steps, max_count=min(limits, default=None))
            return stop
        finally:
            self._running = False
            self.outside.suspend()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        saved = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in saved.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """A running machine must not be unwound by an exception (it would be lost in a callback of the engine's)."""
        if not self._running:
            raise KeyboardInterrupt
        if self._interrupted:
            self.outside.close()
            os._exit(ExitStatus.INTERRUPTED)
        self._interrupted = True
        if number == signal.SIGINT:
            self.machine.request_stop("interrupted by Ctrl-C")
        else:
            self.machine.request_stop("terminated by a signal", StopKind.QUIT)

    # -- the console's escape keys

    def leave(self) -> None:
        """^A x: the guest ends here."""
        self.machine.request_stop("left from the keyboard", StopKind.QUIT)

    def to_repl(self) -> None:
        """^A c: the guest stops, and the REPL begins."""
        self.repl_wanted = True
        self.machine.request_stop("stopped from the keyboard")

    # -- commands from files

    def _run_script(self, script: Script) -> None:
        for number, line in enumerate(script.lines, 1):
            try:
                result = self.table.execute(self.session, line)
            except CommandError as error:
                raise ScriptError(f"{script.name}:{number}: {error}") from error
            if result is not None:
                for piece in pieces(result):
                    print(piece, flush=True)
