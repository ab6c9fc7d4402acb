"""`--json`: a command's data as JSON, from its fields. Every command has it, with no word of code in the command.

Dataclasses and named tuples become objects with their fields' names (also those that their text leaves out), enums their
values, bytes hexadecimal digits, keys of dicts strings. Text alone becomes `{"ok": true, "text": TEXT}`. Integers are
exact, however long: 64-bit values need a reader that keeps them so (Python's does; many in JavaScript do not).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import PurePath

from dbgvmm.commands.output import Lines

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON can say."""


@dataclass(frozen=True)
class Json:
    """A command's result for programs: `data` is what was asked for, `str` its JSON, one line."""

    data: Plain

    def __str__(self) -> str:
        return json.dumps(self.data, ensure_ascii=False)


def as_json(result: object) -> Json:
    """A command's result for `--json`. Raises TypeError for one that holds what is no data."""
    if result is None:
        return Json({"ok": True})
    if isinstance(result, str):
        return Json({"ok": True, "text": result})
    return Json(plain(result))


def plain(value: object) -> Plain:
    """Data as what JSON can say. Raises TypeError."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str | PurePath | Fraction):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Lines):
        return plain(value.data())
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no data: {value!r}")
