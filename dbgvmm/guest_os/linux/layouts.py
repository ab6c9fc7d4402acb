"""Where fields are: the protocol that readers use, and layouts for kernels that do not describe their types (BTF).

Some structures have been the same for years; those are written down here. Others follow from memory: inference.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from dbgvmm.guest_os.interface import GuestOsError

Release = tuple[int, int]


@dataclass(frozen=True)
class Field:
    """A member. offset, size: in bytes from the structure's start; a bit field has bits, from bit `shift` of its bytes."""

    offset: int
    size: int
    shift: int = 0
    bits: int = 0


class Types(Protocol):
    """What is known of a kernel's structures. Paths are as in C, "list.next", "mem[2].base"."""

    def field(self, name: str, path: str) -> Field:
        """A field of a structure. Raises GuestOsError."""

    def has(self, name: str, path: str = "") -> bool:
        """Whether there is such a structure, and such a field in it."""

    def size(self, name: str) -> int:
        """The bytes of a structure. Raises GuestOsError."""

    def array_length(self, name: str, path: str) -> int:
        """How many elements a field has that is an array. Raises GuestOsError."""


class Layouts:
    """Implements `Types` with fields that somebody has found out."""

    def __init__(self, fields: Mapping[str, Mapping[str, Field]], sizes: Mapping[str, int]) -> None:
        self._fields = {name: dict(known) for name, known in fields.items()}
        self._sizes = dict(sizes)

    def known(self) -> dict[str, dict[str, Field]]:
        """All fields, by structure."""
        return {name: dict(fields) for name, fields in self._fields.items()}

    def know(self, name: str, fields: Mapping[str, Field]) -> None:
        """More fields of a structure."""
        self._fields.setdefault(name, {}).update(fields)

    def field(self, name: str, path: str) -> Field:
        """See Types."""
        found = self._fields.get(name, {}).get(path)
        if found is None:
            raise GuestOsError(f"where struct {name} has its {path} is not known: this Linux does not describe its types (BTF)")
        return found

    def has(self, name: str, path: str = "") -> bool:
        """See Types."""
        known = self._fields.get(name)
        return known is not None and (not path or path in known)

    def size(self, name: str) -> int:
        """See Types."""
        if name not in self._sizes:
            raise GuestOsError(f"the size of struct {name} is not known: this Linux does not describe its types (BTF)")
        return self._sizes[name]

    def array_length(self, name: str, path: str) -> int:
        """See Types."""
        raise GuestOsError(f"the {path} of struct {name} is not known: this Linux does not describe its types (BTF)")


_ORC_SINCE: Final[tuple[tuple[Release, dict[str, Field]], ...]] = (
    ((6, 4), {"type": Field(5, 1, 0, 3), "signal": Field(5, 1, 3, 1)}),
    ((6, 3), {"type": Field(5, 1, 0, 2), "signal": Field(5, 1, 2, 1), "end": Field(5, 1, 3, 1)}),
    ((4, 14), {"type": Field(5, 1, 0, 2), "end": Field(5, 1, 2, 1)}),
)
"""arch/x86/include/asm/orc_types.h. The bit `end` is there since 5.1; before, stacks just end."""


def stable_layouts(release: Release) -> Layouts:
    """What has been the same for long: the log's ring (5.10), modules' first fields, ORC entries by version."""
    orc = next((bits for since, bits in _ORC_SINCE if release >= since), {})
    return Layouts(
        {
            "prb_desc": {
                "state_var.counter": Field(0, 8), "text_blk_lpos.begin": Field(8, 8), "text_blk_lpos.next": Field(16, 8),
            },
            "printk_info": {
                "seq": Field(0, 8), "ts_nsec": Field(8, 8), "text_len": Field(16, 2), "level": Field(19, 1, 5, 3),
            },
            "printk_ringbuffer": {
                "desc_ring.count_bits": Field(0, 4), "desc_ring.descs": Field(8, 8), "desc_ring.infos": Field(16, 8),
                "desc_ring.head_id.counter": Field(24, 8), "desc_ring.tail_id.counter": Field(32, 8),
            },
            "pcpu_hot": {"current_task": Field(0, 8)},
            "module": {"state": Field(0, 4), "list": Field(8, 16), "name": Field(24, 56)},
            "mod_kallsyms": {
                "symtab": Field(0, 8), "num_symtab": Field(8, 4), "strtab": Field(16, 8),
                **({"typetab": Field(24, 8)} if release >= (5, 2) else {}),
            },
            "orc_entry": {
                "sp_offset": Field(0, 2), "bp_offset": Field(2, 2), "sp_reg": Field(4, 1, 0, 4), "bp_reg": Field(4, 1, 4, 4),
                **orc,
            },
        },
        {"prb_desc": 24, "printk_info": 88, "orc_entry": 6},
    )  # fmt: skip
