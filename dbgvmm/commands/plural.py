"""Numbers of things, as people say them."""

from __future__ import annotations


def several(number: int, thing: str, things: str = "") -> str:
    """ "1 unit", "1,347 units"; `things` where the plural is not `thing` and an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def times(number: int) -> str:
    """ "once", "12 times"."""
    return "once" if number == 1 else f"{number:,} times"
