"""`GdbCommands`: any command of gdb. The base of what a session can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dbgvmm.gdb.channel import Channel, quoted
from dbgvmm.gdb.errors import CommandFailed, SessionError, TimedOut, VmFailed
from dbgvmm.gdb.records import RUNNING, Answer, Record
from dbgvmm.gdb.results import Stop, parse_stop

COMMAND_SECONDS: Final = 30.0
STOP_SECONDS: Final = 60.0
_LAST_STOP_SECONDS: Final = 1.0


class GdbCommands:
    """A gdb on `channel`. `command_timeout`: seconds that an answer may take; `stop_timeout`: seconds that a running guest
    may take to its next stop, unless a method is told otherwise."""

    def __init__(self, channel: Channel, command_timeout: float = COMMAND_SECONDS, stop_timeout: float = STOP_SECONDS) -> None:
        self._channel = channel
        self.command_timeout = command_timeout
        self.stop_timeout = stop_timeout
        self.last_stop: Stop | None = None

    def mi(self, command: str) -> Answer:
        """A command of gdb's machine interface, such as `-data-list-changed-registers`, and its answer.

        Raises CommandFailed, TimedOut, GdbGone, VmFailed, as every method does.
        """
        try:
            return self._channel.ask(command, self.command_timeout)
        except CommandFailed as error:
            if self._channel.inbox.lost:
                raise VmFailed(f"{self._why_lost()}: {error}") from error
            raise

    def _why_lost(self) -> str:
        return "gdb has no machine any more"

    def execute(self, command: str) -> str:
        """A command as a person types it, and what gdb prints.

        One that resumes the guest ends at the next stop, unless it ends in `&`, gdb's sign for the background.
        """
        if "\n" in command:
            raise SessionError("one command at a time: gdb would ask for the lines behind the first one")
        answer = self.mi(f"-interpreter-exec console {quoted(command)}")
        printed = answer.console + answer.target
        if answer.message != RUNNING or command.rstrip().endswith("&"):
            return printed
        return printed + self.wait_for_stop().output

    def monitor(self, command: str) -> str:
        """A command of dbgvmm's own (docs/commands.md), and its output. Raises CommandFailed with its words."""
        try:
            return self.execute(f"monitor {command}")
        except CommandFailed as error:
            # gdb itself only says "Protocol error".
            raise CommandFailed(f"monitor {command}", error.output.strip() or error.text) from error

    def take_output(self) -> str:
        """What has been printed since the last stop or call, and not for a command: dprintfs of a guest that still runs."""
        self._channel.wait_until(lambda: True, 0.0)
        return self._channel.inbox.take_text()

    def take_notes(self) -> Sequence[Record]:
        """What gdb has reported besides stops since the last call (`breakpoint-modified`, `library-loaded`, ...); at most
        the last thousand."""
        self._channel.wait_until(lambda: True, 0.0)
        notes = list(self._channel.inbox.notes)
        self._channel.inbox.notes.clear()
        return notes

    @property
    def running(self) -> bool:
        """Whether the guest runs."""
        self._channel.wait_until(lambda: True, 0.0)
        return self._channel.inbox.running

    def wait_for_stop(self, timeout: float | None = None) -> Stop:
        """Wait until the guest has stopped; at once if it stands still. Raises TimedOut after `timeout` seconds (the guest
        then still runs), VmFailed if there is no machine any more."""
        inbox = self._channel.inbox
        seconds = self.stop_timeout if timeout is None else timeout
        taken: list[Stop] = []

        def stopped() -> bool:
            found = inbox.take_stop()
            if found is not None:
                taken.append(parse_stop(*found))
            return bool(taken)

        self._channel.wait_until(lambda: stopped() or not inbox.running, seconds)
        if not taken and inbox.lost:
            # A guest that ends is first reported as gone, and then as stopped.
            self._channel.wait_until(stopped, _LAST_STOP_SECONDS)
        if taken:
            self.last_stop = taken[0]
        elif inbox.running:
            raise TimedOut(f"the guest has not stopped within {seconds:g} s: it still runs, and interrupt() stops it")
        elif inbox.lost or self.last_stop is None:
            raise VmFailed(self._why_lost())
        return self.last_stop
