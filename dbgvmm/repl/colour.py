"""Colours for what commands show: instructions by what they do, symbols, branch targets, addresses.

Text is coloured, never changed: without its escape sequences it is what `str` of the result is. Escape sequences are those
of ECMA-48 (SGR), in the terminal's own sixteen colours, which people have chosen to be readable.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

from dbgvmm.commands.disassembly import Listing
from dbgvmm.commands.displays import AllDisplayed
from dbgvmm.commands.run_control import StopReport
from dbgvmm.debug.inside.code import InstructionLine

_RESET: Final = "\x1b[0m"
_STYLES: Final = {
    "address": "\x1b[34m", "symbol": "\x1b[33m", "branch": "\x1b[1;35m", "system": "\x1b[1;31m", "mnemonic": "\x1b[36m",
    "current": "\x1b[1;32m", "stop": "\x1b[1m", "error": "\x1b[1;31m",
}  # fmt: skip
_BRANCH: Final = re.compile(r"(?:j\w+|call|ret\w*|loop\w*|iret\w*|sysret\w*|sysexit\w*|syscall|sysenter|int\d?|into)\b")
_SYSTEM: Final = re.compile(
    r"(?:cli|sti|hlt|in|out|ins[bwd]|outs[bwd]|rdmsr|wrmsr|cpuid|rdtscp?|l[gil]dt|s[gil]dt|ltr|str|lmsw|smsw|clts|invlpg|"
    r"invpcid|w?binvd|swapgs|pushf\w?|popf\w?|clac|stac|mov [cd]r\d+,.*|mov \w+, [cd]r\d+)\b"
)
_WORD: Final = re.compile(r"(?P<symbol><[^<>\n]+>)|(?P<address>\b0x[0-9a-f]+\b)|(?P<current>^=>)", re.MULTILINE)


def wanted(stream: object = None) -> bool:
    """Whether a terminal is at the other end that takes colours, and nobody has said NO_COLOR (https://no-color.org)."""
    stream = sys.stdout if stream is None else stream
    isatty = getattr(stream, "isatty", None)
    return bool(isatty is not None and isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(style: str, text: str) -> str:
    """Text in a style."""
    return f"{_STYLES[style]}{text}{_RESET}"


def coloured(result: object, text: str) -> str:
    """A result's text (or a part of it) with colours."""
    instructions = {line.text: line for line in _instructions(result)}
    if not instructions:
        return _plain(text)
    lines = [_line(line, instructions) for line in text.split("\n")]
    if isinstance(result, StopReport):
        lines[0] = paint("stop", text.partition("\n")[0])
    return "\n".join(lines)


def _instructions(result: object) -> tuple[InstructionLine, ...]:
    match result:
        case Listing(lines=lines):
            return lines
        case StopReport(instruction=instruction, displayed=displayed):
            shown = [line for one in displayed for line in _instructions(one.shown)]
            return (*((instruction,) if instruction else ()), *shown)
        case AllDisplayed(lines=displayed):
            return tuple(line for one in displayed for line in _instructions(one.shown))
        case _:
            return ()


def _line(line: str, instructions: dict[str, InstructionLine]) -> str:
    """A line that may end in an instruction."""
    for text, instruction in instructions.items():
        if line.endswith(text):
            return _plain(line[: len(line) - len(text)]) + _instruction(instruction)
    return _plain(line)


def _instruction(line: InstructionLine) -> str:
    style = "branch" if _BRANCH.match(line.text) else "system" if _SYSTEM.match(line.text) else "mnemonic"
    return paint(style, line.mnemonic) + _plain(line.text[len(line.mnemonic) :])


def _plain(text: str) -> str:
    return _WORD.sub(lambda match: paint(match.lastgroup or "symbol", match[0]), text)
