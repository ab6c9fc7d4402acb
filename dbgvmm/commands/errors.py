"""What a command raises."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot be done. The message is one line that says what to do about it."""


class QuitRequest(Exception):
    """`quit`: leave dbgvmm."""
