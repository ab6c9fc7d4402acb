"""Names of C++ and Rust as their programmers write them (Itanium C++ ABI, chapter 5; Rust RFC 2603 and what was before it)."""

from __future__ import annotations

from typing import Final

MANGLED: Final = ("_Z", "__Z", "_R")
"""How mangled names begin."""
_LANGUAGES: Final = ("itanium", "rust")


def readable(name: str) -> str:
    """The name in its language: "core::fmt::write" for "_ZN4core3fmt5write17h01b2c3d4e5f60718E". Others stay as they are."""
    if not name.startswith(MANGLED):
        return name
    from demangle import demangle  # which takes longer to load than most kernels' symbols

    return demangle(name, language=_LANGUAGES)


def without_parameters(name: str) -> str:
    """ "Thread::exit" for "Thread::exit(void*) const"; `name` if it has none."""
    shorter = name.removesuffix(" const")
    if not shorter.endswith(")"):
        return name
    depth = 0
    for at in range(len(shorter) - 1, -1, -1):
        depth += (shorter[at] == ")") - (shorter[at] == "(")
        if not depth:
            return name if not at or shorter[:at].endswith(("operator", "::", " ")) else shorter[:at]
    return name


__all__ = ["MANGLED", "readable", "without_parameters"]
