"""`Looking`: registers, memory, values, the stack; and changing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dbgvmm.gdb.channel import quoted
from dbgvmm.gdb.commands import GdbCommands
from dbgvmm.gdb.errors import CommandFailed, SessionError
from dbgvmm.gdb.results import Frame, as_list, parse_frame, parse_integer, parse_register

_WRITE_CHUNK: Final = 1024
"""Bytes a write command carries: its line then fits into a pipe at once."""


class Looking(GdbCommands):
    """The guest's state while it stands still."""

    def registers(self, *names: str) -> Mapping[str, int]:
        """The bits of these registers, or of all that are integers or vectors."""
        # Asked anew each time: what registers there are may change with the guest's mode.
        known: Sequence[str] = self.mi("-data-list-register-names").fields["register-names"]
        numbers = {name: number for number, name in enumerate(known) if name}
        missing = [name for name in names if name not in numbers]
        if missing:
            raise SessionError(f"there is no register {missing[0]!r}: `info registers all` lists them")
        wanted = {numbers[name]: name for name in names or numbers}
        answer = self.mi(f"-data-list-register-values x {' '.join(map(str, wanted))}")
        found: dict[str, int] = {}
        for row in answer.fields["register-values"]:
            name = wanted[int(row["number"])]
            try:
                found[name] = parse_register(row["value"])
            except ValueError as error:
                if names:
                    raise SessionError(f"register {name} is no integer: its value is {row['value']}") from error
        return {name: found[name] for name in wanted.values() if name in found}

    def register(self, name: str) -> int:
        """One register."""
        return self.registers(name)[name]

    def evaluate(self, expression: str) -> str:
        """The value of an expression in the guest's language, as gdb prints it. An assignment changes the guest."""
        value: str = self.mi(f"-data-evaluate-expression {quoted(expression)}").fields["value"]
        return value

    def integer(self, expression: str) -> int:
        """The value of an expression that is a number, a pointer or a character. Raises SessionError for others."""
        value = self.evaluate(expression)
        try:
            return parse_integer(value)
        except ValueError as error:
            raise SessionError(f"`{expression}` is no integer: its value is {value}") from error

    def set(self, target: str, value: int | str) -> None:
        """Assign to a variable, a register ("$rax") or memory ("*(int *) 0x1000")."""
        self.evaluate(f"{target} = {value}")

    def read_memory(self, address: int | str, length: int) -> bytes:
        """`length` bytes at an address or expression. All or nothing: raises CommandFailed where memory is not mapped."""
        if length <= 0:
            return b""
        command = f"-data-read-memory-bytes {quoted(str(address))} {length}"
        blocks = self.mi(command).fields["memory"]
        data = b"".join(bytes.fromhex(block["contents"]) for block in blocks)
        if len(blocks) != 1 or len(data) != length:
            raise CommandFailed(command, f"only {len(data)} of the {length} bytes can be read")
        return data

    def write_memory(self, address: int | str, data: bytes) -> None:
        """Change memory at an address or expression."""
        start = address if isinstance(address, int) else self.integer(f"(unsigned long) ({address})")
        for offset in range(0, len(data), _WRITE_CHUNK):
            self.mi(f"-data-write-memory-bytes {start + offset:#x} {data[offset : offset + _WRITE_CHUNK].hex()}")

    def backtrace(self, limit: int | None = None) -> Sequence[Frame]:
        """The frames of the stack, the innermost first; at most `limit`."""
        if limit is not None and limit <= 0:
            return []
        span = "" if limit is None else f" 0 {limit - 1}"
        frames = self.mi(f"-stack-list-frames{span}").fields["stack"]
        arguments = self.mi(f"-stack-list-arguments --all-values{span}").fields["stack-args"]
        return [
            parse_frame(frame, as_list(shown.get("args")))
            for frame, shown in zip(as_list(frames), as_list(arguments), strict=True)
        ]
