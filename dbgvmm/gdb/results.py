"""What a session hands out: stops, frames, breakpoints, as values (GDB manual, "GDB/MI Async Records" and following)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

_INTEGER: Final = re.compile(r"\s*(?:\((?:[^()]|\([^()]*\))*\)\s*)?(-?(?:0[xX][0-9a-fA-F]+|\d+))(?![\w.])")
_PARTS_128: Final = re.compile(r"uint128 = (0x[0-9a-fA-F]+|\d+)")


class Reason(StrEnum):
    """Why the guest has stopped, in gdb's words."""

    NONE = ""
    """gdb gives none: it has just connected."""
    BREAKPOINT = "breakpoint-hit"
    WATCHPOINT = "watchpoint-trigger"
    READ_WATCHPOINT = "read-watchpoint-trigger"
    ACCESS_WATCHPOINT = "access-watchpoint-trigger"
    WATCHPOINT_SCOPE = "watchpoint-scope"
    """The watched variable is no more: its function has returned."""
    FINISHED = "function-finished"
    LOCATION = "location-reached"
    """The end of `advance` or `until`."""
    STEPPED = "end-stepping-range"
    SIGNAL = "signal-received"
    EXITED = "exited"
    """The guest has ended with an exit code other than 0."""
    EXITED_NORMALLY = "exited-normally"
    EXITED_BY_SIGNAL = "exited-signalled"
    """The machine was ended from outside."""
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Reason:
        return cls.OTHER


_ENDS: Final = frozenset((Reason.EXITED, Reason.EXITED_NORMALLY, Reason.EXITED_BY_SIGNAL))
_WATCH_KEYS: Final = ("wpt", "hw-rwpt", "hw-awpt")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the stack; level 0 is where the guest stands. `function` is "" where gdb knows none, `file` and `line`
    "" and 0 without line numbers. `arguments`: values as gdb prints them."""

    level: int
    pc: int
    function: str = ""
    file: str = ""
    line: int = 0
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        where = f" at {self.file}:{self.line}" if self.file else ""
        return f"#{self.level} {self.pc:#x} {self.function or '??'}({arguments}){where}"


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watchpoint has seen, as gdb prints it. For a read, `old` is None and `new` the value read; a write that
    changed nothing has only `new`, too."""

    expression: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of the guest.

    `breakpoint`: the number of the break- or watchpoint. `signal`: "SIGINT" for an interrupt, "SIGTRAP", "SIGSEGV" for a
    triple fault. `exit_code`: the guest's, at its end. `returned`: what the function gave that `finish` left.
    `output`: what gdb and dprintfs have printed since the guest was resumed.
    """

    reason: Reason
    frame: Frame | None = None
    breakpoint: int | None = None
    watched: Watched | None = None
    signal: str = ""
    exit_code: int | None = None
    returned: str | None = None
    output: str = ""

    @property
    def pc(self) -> int | None:
        """Where the guest stands; None at its end."""
        return self.frame.pc if self.frame is not None else None

    @property
    def ended(self) -> bool:
        """The guest is at its end: there is nothing to continue."""
        return self.reason in _ENDS


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A break-, watch- or dprintf point. `kind` in gdb's words ("breakpoint", "hw watchpoint", "dprintf"); `address` is
    None for watchpoints and for several places at once; `hits` as gdb counts them: what the stub decides on its own
    (conditions that do not hold, dprintfs) is not among them."""

    number: int
    kind: str = "breakpoint"
    address: int | None = None
    function: str = ""
    what: str = ""
    condition: str = ""
    enabled: bool = True
    temporary: bool = False
    hits: int = 0


def parse_frame(fields: Mapping[str, Any], arguments: Iterable[Mapping[str, Any]] | None = None) -> Frame:
    """A frame out of gdb's fields."""
    shown = fields.get("args", ()) if arguments is None else arguments
    return Frame(
        level=int(fields.get("level", 0)),
        pc=int(fields["addr"], 16),
        function="" if fields.get("func") == "??" else fields.get("func", ""),
        file=fields.get("file", ""),
        line=int(fields.get("line", 0)),
        arguments={argument["name"]: argument.get("value", "") for argument in shown},
    )


def parse_stop(fields: Mapping[str, Any], output: str) -> Stop:
    """A stop out of a `*stopped` record."""
    number, watched = fields.get("bkptno"), None
    for key in _WATCH_KEYS:
        if key in fields:
            values = fields.get("value", {})
            number = fields[key]["number"]
            watched = Watched(fields[key]["exp"], values.get("old"), values.get("new", values.get("value")))
    reason = Reason(_first(fields.get("reason", "")))
    code = fields.get("exit-code")
    return Stop(
        reason=reason,
        frame=parse_frame(fields["frame"]) if "frame" in fields else None,
        breakpoint=int(_first(number)) if number is not None else None,
        watched=watched,
        signal=fields.get("signal-name", ""),
        # gdb writes it in octal.
        exit_code=int(code, 8) if code is not None else 0 if reason is Reason.EXITED_NORMALLY else None,
        returned=fields.get("return-value"),
        output=output,
    )


def _first(value: Any) -> str:
    """gdb may name several reasons or breakpoints at once: the first."""
    return str(value[0]) if isinstance(value, list) else str(value)


def parse_breakpoint(fields: Mapping[str, Any]) -> Breakpoint:
    """A breakpoint out of gdb's `bkpt`."""
    address = fields.get("addr", "")
    return Breakpoint(
        number=int(fields["number"]),
        kind=fields.get("type", "breakpoint"),
        address=int(address, 16) if address.startswith("0x") else None,
        function=fields.get("func", ""),
        what=fields.get("what", fields.get("original-location", "")),
        condition=fields.get("cond", ""),
        enabled=fields.get("enabled", "y") == "y",
        temporary=fields.get("disp") == "del",
        hits=int(fields.get("times", 0)),
    )


def parse_integer(text: str) -> int:
    """The number in a value that gdb has printed: "12", "0x10 <start>", "97 'a'", "(void *) 0x0". Raises ValueError."""
    match = _INTEGER.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not an integer")
    return int(match[1], 0)


def parse_register(text: str) -> int:
    """A register's bits in a value that gdb has printed in hexadecimal; of a vector, all of them. Raises ValueError."""
    whole = _PARTS_128.search(text)
    return parse_integer(whole[1] if whole is not None else text)


def as_list(value: Any) -> Sequence[Any]:
    """What pygdbmi gives for a list of gdb's: an empty one may come as nothing."""
    return value if isinstance(value, list) else [] if value is None else [value]
