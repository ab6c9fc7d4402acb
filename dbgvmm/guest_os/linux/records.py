"""Structures in guest memory, read by their fields' names."""

from __future__ import annotations

from collections.abc import Iterator

from dbgvmm.guest_os.linux.layouts import Field, Types
from dbgvmm.guest_os.reading import AddressSpace, NotReadable

LONGEST_LIST = 1 << 20


class Record:
    """The structure `kind` at a linear address: `task["mm.pgd"]` reads a number. Raises NotReadable, GuestOsError."""

    __slots__ = ("_space", "_types", "address", "kind")

    def __init__(self, space: AddressSpace, types: Types, kind: str, address: int) -> None:
        self._space = space
        self._types = types
        self.kind = kind
        self.address = address

    def __getitem__(self, path: str) -> int:
        field: Field = self._types.field(self.kind, path)
        value = self._space.unsigned(self.address + field.offset, field.size)
        return value >> field.shift & (1 << field.bits) - 1 if field.bits else value

    def has(self, path: str) -> bool:
        """Whether this kernel has the field."""
        return self._types.has(self.kind, path)

    def place(self, path: str) -> int:
        """Where a field is."""
        return self.address + self._types.field(self.kind, path).offset

    def text(self, path: str) -> str:
        """A field that is an array of characters."""
        field = self._types.field(self.kind, path)
        return self._space.text(self.address + field.offset, field.size)

    def at(self, path: str, kind: str) -> Record | None:
        """The structure that a field points to, None for a null pointer."""
        address = self[path]
        return Record(self._space, self._types, kind, address) if address else None


class Records:
    """Makes `Record`s of one kernel."""

    def __init__(self, space: AddressSpace, types: Types) -> None:
        self.space = space
        self.types = types

    def __call__(self, kind: str, address: int) -> Record:
        """The structure of that kind at an address."""
        return Record(self.space, self.types, kind, address)

    def containing(self, kind: str, path: str, address: int) -> Record:
        """The structure whose field `path` is at `address`."""
        return Record(self.space, self.types, kind, address - self.types.field(kind, path).offset)

    def ring(self, head: int, kind: str, path: str) -> Iterator[Record]:
        """The structures on a `list_head` ring. Raises BrokenList where it leads nowhere, or not back to `head`."""
        seen = {head}
        try:
            at = self.space.u64(head)
            while at != head:
                if at in seen or len(seen) > LONGEST_LIST:
                    raise BrokenList(f"after {len(seen) - 1} entries, the list runs in circles at {at:#x}")
                seen.add(at)
                following = self.space.u64(at)
                yield self.containing(kind, path, at)
                at = following
        except NotReadable as error:
            raise BrokenList(f"after {len(seen) - 1} entries, the list leads astray: {error}") from error


class BrokenList(Exception):
    """A list in guest memory is damaged. The message says how."""
