"""Why a frame is traced: bits, kept per frame in one dictionary that all parts of the MMU read."""

from __future__ import annotations

from typing import Final

TABLE: Final = 1
"""The frame is a guest page table that has a shadow."""
CODE: Final = 2
"""Guest code on the frame has been translated."""
WATCH: Final = 4
"""A debugger watches writes to the frame."""
HIDE: Final = 8
"""A debugger watches reads too: no shadow entry maps the frame, and every access faults."""
IN_PLACE: Final = 16
"""User code on the frame has run in place, untranslated."""

_WORDS: Final = (
    (TABLE, "page table"), (CODE, "code"), (WATCH, "watchpoint"), (HIDE, "watchpoint for reads"),
    (IN_PLACE, "code that runs in place"),
)  # fmt: skip


def trace_words(kinds: int) -> str:
    """The reasons for people: "page table and code"."""
    return " and ".join(word for bit, word in _WORDS if kinds & bit)
