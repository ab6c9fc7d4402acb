"""BTF: the kernel's own description of its types, out of its memory (between __start_BTF and __stop_BTF).

Source: Documentation/bpf/btf.rst. Only what is needed to find fields: names of structures, members, sizes.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import cache
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError
from dbgvmm.guest_os.linux.layouts import Field

_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")
_ARRAY: Final = struct.Struct("<III")
_ENUMERATOR: Final = struct.Struct("<Ii")
_VLEN: Final = 0xFFFF
_BITFIELDS: Final = 1 << 31
_DEEPEST: Final = 64


class Kind(IntEnum):
    """BTF_KIND_*."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_FIXED: Final = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VAR: 4, Kind.DECL_TAG: 4}
_EACH: Final = {Kind.STRUCT: 12, Kind.UNION: 12, Kind.ENUM: 8, Kind.FUNC_PROTO: 8, Kind.DATASEC: 12, Kind.ENUM64: 12}
_TRANSPARENT: Final = frozenset((Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG))
_SIZED: Final = frozenset((Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT))
_TRAILER: Final = [(_FIXED.get(Kind(k), 0), _EACH.get(Kind(k), 0)) if k else (0, 0) for k in range(max(Kind) + 1)]


class Btf:
    """Implements `Types`: the types in a block of BTF. Raises GuestOsError if it is none, or damaged."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC:
            raise GuestOsError("the kernel's type information (BTF) is damaged: it does not begin with its magic number")
        _, _, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(data)
        self._types = header + types
        self._strings = header + strings
        self._strings_end = self._strings + strings_size
        if self._types + types_size > len(data) or self._strings_end > len(data):
            raise GuestOsError("the kernel's type information (BTF) is damaged: its sections are larger than it is")
        self._places = [0]
        self._named: dict[tuple[int, int], int] = {}
        self._index(self._types + types_size)
        self.field = cache(self._field)
        self.has = cache(self._has)

    def _index(self, end: int) -> None:
        """Where each type is, and which are called what."""
        at, places, named, unpack = self._types, self._places, self._named, _TYPE.unpack_from
        data, trailer, known = self._data, _TRAILER, len(_TRAILER)
        while at < end:
            if at + 12 > end:
                raise GuestOsError("the kernel's type information (BTF) is damaged: a type is cut off")
            name, info, _ = unpack(data, at)
            kind = info >> 24 & 31
            if not 0 < kind < known:
                raise GuestOsError(f"the kernel's type information (BTF) has a kind of type that is not known, {kind}")
            if name:
                named.setdefault((kind, name), len(places))
            places.append(at)
            fixed, each = trailer[kind]
            at += 12 + fixed + each * (info & _VLEN)

    def _type(self, number: int) -> tuple[int, int, int, int]:
        """(name, info, size or type, where it is)."""
        if not 0 < number < len(self._places):
            raise GuestOsError(f"the kernel's type information (BTF) is damaged: there is no type {number}")
        at = self._places[number]
        return *_TYPE.unpack_from(self._data, at), at

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        end = self._data.find(b"\0", start, self._strings_end)
        return self._data[start:end].decode("latin-1") if end >= 0 else ""

    def find(self, name: str, *kinds: Kind) -> int | None:
        """The number of the (first) type of that name and one of these kinds."""
        wanted = b"\0" + name.encode() + b"\0"
        at = self._data.find(wanted, self._strings, self._strings_end)
        while at >= 0:
            for kind in kinds:
                number = self._named.get((kind, at + 1 - self._strings))
                if number is not None:
                    return number
            at = self._data.find(wanted, at + 1, self._strings_end)
        return None

    def _bare(self, number: int) -> int:
        """Without typedefs and qualifiers."""
        for _ in range(_DEEPEST):
            _, info, target, _ = self._type(number)
            if info >> 24 & 31 not in _TRANSPARENT:
                return number
            number = target
        raise GuestOsError("the kernel's type information (BTF) is damaged: a type is defined by itself")

    def _size(self, number: int, depth: int = 0) -> int:
        number = self._bare(number)
        _, info, size, at = self._type(number)
        kind = info >> 24 & 31
        if kind == Kind.PTR:
            return 8
        if kind == Kind.ARRAY:
            element, _, count = _ARRAY.unpack_from(self._data, at + 12)
            if depth > _DEEPEST:
                raise GuestOsError("the kernel's type information (BTF) is damaged: arrays of arrays without end")
            return int(count) * self._size(element, depth + 1)
        return size if kind in _SIZED else 0

    def _struct(self, name: str) -> int:
        number = self.find(name, Kind.STRUCT, Kind.UNION)
        if number is None:
            raise GuestOsError(f"this kernel's type information (BTF) has no struct {name}: it is of a version not known here")
        return number

    def size(self, name: str) -> int:
        """The bytes of a structure."""
        return self._size(self._struct(name))

    def _has(self, name: str, path: str = "") -> bool:
        """Whether there is such a structure, and such a field in it."""
        number = self.find(name, Kind.STRUCT, Kind.UNION)
        return number is not None and (not path or self._walk(number, path) is not None)

    def _field(self, name: str, path: str) -> Field:
        """A field of a structure, "list.next" for one of a member; members of unnamed ones count as its own.

        An array's is its first element: "mem[2].base" is the one at an index.
        """
        found = self._walk(self._struct(name), path)
        if found is None:
            raise GuestOsError(f"this kernel's struct {name} has no {path}: it is of a version that is not known here")
        return found

    def _walk(self, number: int, path: str) -> Field | None:
        offset, field = 0, Field(0, 0)
        for word in path.split("."):
            word, bracket, index = word.partition("[")
            member = self._member(self._bare(number), word)
            if member is None:
                return None
            field, number = member
            if bracket:
                element, _, count = _ARRAY.unpack_from(self._data, self._type(self._bare(number))[3] + 12)
                number, size = element, self._size(element)
                if int(index.rstrip("]")) >= count:
                    return None
                field = Field(field.offset + int(index.rstrip("]")) * size, size)
            offset += field.offset
        return Field(offset, field.size, field.shift, field.bits)

    def _member(self, number: int, name: str, depth: int = 0) -> tuple[Field, int] | None:
        _, info, _, at = self._type(number)
        if info >> 24 & 31 not in (Kind.STRUCT, Kind.UNION) or depth > _DEEPEST:
            return None
        for index in range(info & _VLEN):
            name_at, kind, place = _MEMBER.unpack_from(self._data, at + 12 + 12 * index)
            bits = place >> 24 if info & _BITFIELDS else 0
            place = place & 0xFF_FFFF if info & _BITFIELDS else place
            if name_at:
                if self._name(name_at) == name:
                    if bits:
                        return Field(place >> 3, (place % 8 + bits + 7) // 8, place % 8, bits), kind
                    return Field(place >> 3, self._size(kind)), kind
            else:
                inner = self._member(self._bare(kind), name, depth + 1)
                if inner is not None:
                    field, kind = inner
                    return Field(field.offset + (place >> 3), field.size, field.shift, field.bits), kind
        return None

    def array_length(self, name: str, path: str) -> int:
        """How many elements a field has that is an array."""
        number = self._struct(name)
        for word in path.split("."):
            member = self._member(self._bare(number), word)
            if member is None:
                raise GuestOsError(f"this kernel's struct {name} has no {path}: it is of a version that is not known here")
            number = member[1]
        _, info, _, at = self._type(self._bare(number))
        if info >> 24 & 31 != Kind.ARRAY:
            raise GuestOsError(f"this kernel's struct {name} has a {path} that is no array: its version is not known here")
        return int(_ARRAY.unpack_from(self._data, at + 12)[2])

    def enumerators(self, name: str) -> dict[str, int]:
        """The constants of an enum; none if there is no such enum."""
        number = self.find(name, Kind.ENUM)
        if number is None:
            return {}
        _, info, _, at = self._type(number)
        pairs = (_ENUMERATOR.unpack_from(self._data, at + 12 + 8 * index) for index in range(info & _VLEN))
        return {self._name(name_at): value for name_at, value in pairs}
