"""`Running`: resuming the guest, each time until it stops."""

from __future__ import annotations

from dbgvmm.gdb.channel import quoted
from dbgvmm.gdb.commands import GdbCommands
from dbgvmm.gdb.errors import CommandFailed
from dbgvmm.gdb.results import Stop


class Running(GdbCommands):
    """Each method ends at the next stop, whatever its reason: look at it. `timeout`: seconds; see `wait_for_stop`."""

    def resume(self) -> None:
        """Let the guest run, and do not wait."""
        self._start("-exec-continue")

    def continue_(self, timeout: float | None = None) -> Stop:
        """Run to the next stop."""
        return self._run("-exec-continue", timeout)

    def step_instruction(self, count: int = 1, timeout: float | None = None) -> Stop:
        """`stepi`: instructions, into calls."""
        return self._run(f"-exec-step-instruction {count}", timeout)

    def next_instruction(self, count: int = 1, timeout: float | None = None) -> Stop:
        """`nexti`: instructions; a call with all that it does is one."""
        return self._run(f"-exec-next-instruction {count}", timeout)

    def step(self, count: int = 1, timeout: float | None = None) -> Stop:
        """`step`: source lines, into functions."""
        return self._run(f"-exec-step {count}", timeout)

    def next_(self, count: int = 1, timeout: float | None = None) -> Stop:
        """`next`: source lines, over functions."""
        return self._run(f"-exec-next {count}", timeout)

    def finish(self, timeout: float | None = None) -> Stop:
        """Run until the selected frame's function has returned; its value is the stop's `returned`."""
        return self._run("-exec-finish", timeout)

    def advance(self, location: str, timeout: float | None = None) -> Stop:
        """Run to a place ("kmain", "main.c:20", "*0x106000"), or to the end of the current function if that comes first."""
        # -exec-until stops in the current frame only.
        return self._run(f"-interpreter-exec console {quoted(f'advance {location}')}", timeout)

    def interrupt(self, timeout: float | None = None) -> Stop:
        """Stop a running guest. The stop is the one that came first: a breakpoint may have been hit just before."""
        if self.running:
            try:
                self.mi("-exec-interrupt")
            except CommandFailed:
                # It has stopped by itself in between.
                if self.running:
                    raise
        return self.wait_for_stop(timeout)

    def _start(self, command: str) -> None:
        self._channel.inbox.drop_stops()
        self.mi(command)

    def _run(self, command: str, timeout: float | None) -> Stop:
        self._start(command)
        return self.wait_for_stop(timeout)
