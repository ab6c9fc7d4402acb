"""`Supervisor`: one machine and the people around it, from the first instruction to the last word.

A running guest has the terminal, whoever let it run. When it stands still, a gdb that is connected and the REPL are served
at the same time: the prompt answers while gdb asks. With a gdb connected only gdb lets the guest run, since nothing in its
protocol would tell it that somebody else has. With neither of them the guest just runs.

Ctrl-C stops a running guest. If it does not stop, the next ones end everything; so does one when nothing runs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from dbgvmm.commands import CommandError, CommandTable, QuitRequest, Session
from dbgvmm.commands.output import pieces
from dbgvmm.commands.python_errors import describe_error
from dbgvmm.commands.python_files import run_file
from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.exit_status import ExitStatus
from dbgvmm.machine import Machine
from dbgvmm.outside import Outside

_ENDS: Final = frozenset((StopKind.LIMIT, StopKind.QUIT))
"""Kinds after which there is nothing to do, beside those that are `final`."""
_PRESSES: Final = 2
"""So many Ctrl-C end everything if the guest does not stop."""
_PRESSES_WITH_REPL: Final = 3
"""With a prompt one has to mean it: Ctrl-C stops the guest, not the program."""


class Repl(Protocol):
    """A front end for commands. failed: how many have failed. unattended: it reads a pipe."""

    failed: int
    unattended: bool

    def interact(self) -> bool:
        """Take commands until the person leaves (True) or a debugger wants the machine (False)."""

    def run(self, line: str) -> bool:
        """Run one command line; whether it went well. Raises QuitRequest."""

    def tell(self, stop: Stop) -> None:
        """Show a stop of a guest that somebody else let run."""


@dataclass(frozen=True)
class Script:
    """Command lines, each with where it is from. fatal: one that fails ends the run; else it is told, and the next follows."""

    lines: tuple[tuple[str, str], ...]
    fatal: bool = True

    @staticmethod
    def of(name: str, lines: Sequence[str], *, fatal: bool = True) -> Script:
        """The lines of a file."""
        return Script(tuple((f"{name}:{number}", line) for number, line in enumerate(lines, 1)), fatal)


@dataclass(frozen=True)
class PythonScript:
    """A Python file, and its `sys.argv[1:]`."""

    path: Path
    arguments: tuple[str, ...] = ()


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
        self.session = Session(machine, run=self._run_for_a_person, table=table)
        self.session.show = lambda text: print(text, flush=True)
        machine.around_run = self._guest_has_terminal
        machine.max_count = max_count
        self.make_repl: Callable[[], Repl] | None = None
        self._repl: Repl | None = None
        self.repl_wanted = False
        self._restart_on_reset = restart_on_reset
        self._running = False
        self._presses = 0

    # -- the loop

    def main(
        self, *scripts: Script, python: Sequence[PythonScript] = (), wait: bool = False, batch: bool = False
    ) -> Stop | None:
        """Run scripts, then serve whoever has the machine until the run is over.

        wait: for a debugger, before that. batch: end when the scripts have. Returns the last stop, None if nothing has run.
        Raises ScriptError, ScriptFailed; SystemExit as a script does.
        """
        try:
            with self._signals():
                for script in scripts:
                    self._run_script(script)
                for one in python:
                    self._run_python(one)
                if batch:
                    return self.machine.last_stop
                if wait and self.gdb is not None:
                    self.gdb.wait_for_debugger()
                return self._loop()
        except KeyboardInterrupt:
            return Stop(StopKind.INTERRUPT, "interrupted")
        except QuitRequest:
            return self.machine.last_stop

    def _loop(self) -> Stop | None:
        machine, gdb = self.machine, self.gdb
        while True:
            if gdb is not None:
                gdb.serve(wait=not self.repl_wanted)
                if gdb.killed:
                    return Stop(StopKind.QUIT, "killed by the debugger")
            debugged = gdb is not None and gdb.attached
            if self.repl_wanted and not (gdb is not None and gdb.runs_machine):
                if self._prompt().interact() or self.left:
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
            if self.repl_wanted:
                self._prompt().tell(stop)
            if not (gdb is not None and gdb.attached) and not self.repl_wanted:
                return stop

    def _prompt(self) -> Repl:
        """The REPL, made when it is first wanted."""
        if self._repl is None:
            assert self.make_repl is not None, "whoever wants a REPL says how to make one"
            self._repl = self.make_repl()
        return self._repl

    @property
    def failed(self) -> bool:
        """A command of a REPL that nobody sits at has failed."""
        return self._repl is not None and self._repl.unattended and self._repl.failed > 0

    @staticmethod
    def _is_end(stop: Stop) -> bool:
        return stop.kind.final or stop.kind in _ENDS

    @property
    def left(self) -> bool:
        """The person has left from the keyboard while the guest ran."""
        stop = self.machine.last_stop
        return stop is not None and stop.kind is StopKind.QUIT

    # -- running

    def _run_for_a_person(self, *, steps: int | None = None, max_count: int | None = None) -> Stop:
        """Run it for a command that was typed. Raises CommandError while gdb is connected."""
        if self.gdb is not None and self.gdb.attached:
            raise CommandError(
                "gdb is connected, and would not know that the guest has run: let it run from there, or `detach` there first"
            )
        return self.run(steps=steps, max_count=max_count)

    def run(self, *, steps: int | None = None, max_count: int | None = None) -> Stop:
        """Run the machine for a person or a debugger: to them, what a hook raises is a stop."""
        machine = self.machine
        try:
            stop = machine.run(steps=steps, max_count=max_count)
            while stop.kind is StopKind.RESET and self._restart_on_reset:
                machine.restart()
                stop = machine.run(steps=steps, max_count=max_count)
            return stop
        except KeyboardInterrupt:
            stop = Stop(StopKind.INTERRUPT, "interrupted by Ctrl-C")
        except Exception as error:
            if error is not machine.hooks.failure:
                raise
            stop = Stop(StopKind.SCRIPT_ERROR, describe_error(error))
        machine.last_stop = stop
        return stop

    @contextmanager
    def _guest_has_terminal(self) -> Iterator[None]:
        sys.stdout.flush()
        self.outside.resume()
        self._running, self._presses = True, 0
        try:
            yield
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
            if self.session.busy and not self.session.interrupted and number == signal.SIGINT:
                self.session.interrupted = True  # a command looks at it when it can be left with nothing half done
                return
            raise KeyboardInterrupt
        self._presses += 1
        if self._presses >= (_PRESSES_WITH_REPL if self.repl_wanted else _PRESSES):
            self.outside.close()
            os._exit(ExitStatus.INTERRUPTED)
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

    def interrupt(self) -> bool:
        """^C on the console: stops the guest for a person who has a REPL. Whether it does: else the guest gets the key."""
        if self.repl_wanted:
            self.machine.request_stop("interrupted by Ctrl-C")
        return self.repl_wanted

    # -- commands from files

    def _run_python(self, script: PythonScript) -> None:
        result = run_file(self.session, script.path, script.arguments).result
        if isinstance(result, int) and not isinstance(result, bool):
            sys.exit(result)

    def _run_script(self, script: Script) -> None:
        session = self.session
        for place, line in script.lines:
            session.busy, session.interrupted = True, False
            try:
                result = self.table.execute(session, line)
                for piece in pieces(result) if result is not None else ():
                    print(piece, flush=True)
            except CommandError as error:
                if script.fatal:
                    raise ScriptError(f"{place}: {error}") from error
                print(f"dbgvmm: {place}: {error}", file=sys.stderr, flush=True)
            finally:
                session.busy = False
