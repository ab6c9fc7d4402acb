"""What can go wrong in a scripted session. Each message is one line that says what was asked and what happened."""

from __future__ import annotations


class SessionError(Exception):
    """The base of all errors of `dbgvmm.gdb`."""


class GdbMissing(SessionError):
    """There is no gdb to start."""


class CommandFailed(SessionError):
    """gdb has refused a command. `command`: what it was given; `text`: gdb's own words; `output`: what was printed before."""

    def __init__(self, command: str, text: str, output: str = "") -> None:
        super().__init__(f"{text} (the answer to `{command}`)")
        self.command = command
        self.text = text
        self.output = output


class GdbGone(SessionError):
    """gdb has ended, or the session has been closed."""


class TimedOut(SessionError):
    """What was waited for has not come in time. The session can still be used."""


class VmFailed(SessionError):
    """The virtual machine has not started, or has ended without telling gdb. `status`: its exit status, if known."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
