"""Guest memory to and from files on the host: `dump`, `load`. Not for gdb's `monitor`: its user may be elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.memory_edit import check_physical
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import MASK64
from dbgvmm.mmu.linear import NotMapped

_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Copied:
    """What was copied, and where."""

    path: Path
    address: int
    length: int
    physical: bool
    to_file: bool

    def __str__(self) -> str:
        where = f"{'physical ' if self.physical else ''}{self.address:#x}"
        way = f"from {where} to {self.path}" if self.to_file else f"from {self.path} to {where}"
        return f"{self.length} bytes copied {way}"


@command("dump", aliases=("dump memory",))
def dump(session: Session, file: Path, address: Address, length: Count, *, phys: bool = False) -> Copied:
    """Write LENGTH bytes at ADDRESS to FILE, in place of what is in that. `--phys`: ADDRESS is physical.

    For example:

        dump kernel.bin 0x100000 0x2000
        dump ram.bin 0 0x1000 --phys
    """
    if phys:
        check_physical(session, address, length)
    try:
        with file.open("wb") as out:
            for piece in _pieces(session, address, length, phys):
                out.write(piece)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except CommandError:
        with suppress(OSError):
            file.unlink()  # no half of a dump may be taken for a whole one
        raise
    return Copied(file, address, length, phys, True)


def _pieces(session: Session, address: int, length: int, phys: bool) -> Iterator[bytes]:
    machine = session.machine
    for at in range(0, length, _PIECE):
        session.check_interrupt()
        size = min(_PIECE, length - at)
        try:
            yield machine.ram.read(address + at, size) if phys else machine.memory.peek(address + at & MASK64, size)
        except NotMapped as error:
            raise CommandError(str(error)) from error


@command("load", aliases=("restore",))
def load(session: Session, file: Path, address: Address, *, phys: bool = False) -> Copied:
    """Write the bytes of FILE to ADDRESS. `--phys`: ADDRESS is physical.

    For example:

        load kernel.bin 0x100000
    """
    machine = session.machine
    try:
        if file.stat().st_size > machine.ram.size:
            raise CommandError(f"{file} has {file.stat().st_size:,} bytes, more than the guest's RAM")
        data = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    try:
        if phys:
            check_physical(session, address, len(data))
            machine.mmu.guest_write(address, data)
        else:
            machine.memory.poke(address, data)
    except NotMapped as error:
        raise CommandError(f"{error}; nothing was written") from error
    return Copied(file, address, len(data), phys, False)
