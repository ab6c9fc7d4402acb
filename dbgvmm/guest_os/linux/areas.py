"""What a Linux process has mapped: its VMAs, out of the maple tree (6.1 and later) or the list before that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dbgvmm.guest_os.interface import Area, GuestOsError, Listing
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.records import LONGEST_LIST, BrokenList, Record, Records
from dbgvmm.guest_os.reading import NotReadable
from dbgvmm.hardware.layout import MASK64, PAGE_SHIFT

_RIGHTS: Final = ((1, "r"), (2, "w"), (4, "x"))
_SHARED: Final = 8
_NODE_MASK: Final = ~0xFF
_NODE_TYPE_SHIFT: Final = 3
_INTERNAL: Final = 2
"""The low bits of an entry that is a node or a mark, not a pointer (include/linux/xarray.h)."""
_SMALLEST_NODE: Final = 4096
_LEAF: Final = 1
_ARANGE: Final = 3
_DEEPEST: Final = 32
_LONGEST_NAME: Final = 256
_MOST_COMPONENTS: Final = 256


def read_areas(records: Records, names: NameTable, task: int) -> Listing[Area]:
    """The areas of the task at an address, none for a kernel thread. Raises GuestOsError."""
    found: list[Area] = []
    try:
        mm = records("task_struct", task).at("mm", "mm_struct")
        if mm is None:
            return Listing(())
        if not has_areas(records):
            raise GuestOsError("what a process has mapped is not known: this Linux does not describe its types (BTF)")
        reader = _Reader(records, names, mm)
        if mm.has("mm_mt"):
            tree = _tree_entries(records, mm["mm_mt.ma_root"], MASK64, set())
            vmas: Iterator[Record] = (records("vm_area_struct", address) for address in tree)
        else:
            vmas = _chain(records, mm["mmap"])
        for vma in vmas:
            found.append(reader.area(vma))
    except (BrokenList, NotReadable) as error:
        return Listing(tuple(found), f"the list of mapped areas is damaged: {error}")
    return Listing(tuple(found))


def has_areas(records: Records) -> bool:
    """Whether the layouts that are needed are known."""
    return records.types.has("mm_struct", "mm_mt") or records.types.has("mm_struct", "mmap")


def _chain(records: Records, first: int) -> Iterator[Record]:
    seen: set[int] = set()
    while first:
        if first in seen or len(seen) > LONGEST_LIST:
            raise BrokenList(f"after {len(seen)} entries, the list runs in circles at {first:#x}")
        seen.add(first)
        vma = records("vm_area_struct", first)
        yield vma
        first = vma["vm_next"]


def _tree_entries(records: Records, entry: int, highest: int, seen: set[int], depth: int = 0) -> Iterator[int]:
    """The pointers in a maple tree, in order (lib/maple_tree.c; include/linux/maple_tree.h for the nodes)."""
    if entry & 3 != _INTERNAL or entry < _SMALLEST_NODE:
        if entry and entry & 3 != _INTERNAL:
            yield entry
        return
    node = entry & _NODE_MASK & MASK64
    kind = entry >> _NODE_TYPE_SHIFT & 15
    if node in seen or depth > _DEEPEST:
        raise BrokenList(f"the tree leads in circles at {node:#x}")
    seen.add(node)
    if not _LEAF <= kind <= _ARANGE:
        raise BrokenList(f"the node at {node:#x} is of a kind that there is not, {kind}")
    structure = "maple_arange_64" if kind == _ARANGE else "maple_range_64"
    pivots = records.types.array_length(structure, "pivot")
    space, layout = records.space, records.types.field
    pivot_at = node + layout(structure, "pivot").offset
    slot_at = node + layout(structure, "slot").offset
    for index in range(pivots + 1):
        last = space.u64(pivot_at + 8 * index) if index < pivots else highest
        if not last and index:
            last = highest  # behind the pivots in use stand zeros
        child = space.u64(slot_at + 8 * index)
        if kind == _LEAF:
            if child and child & 3 != _INTERNAL:
                yield child
        elif child:
            yield from _tree_entries(records, child, last, seen, depth + 1)
        if last >= highest:
            return


class _Reader:
    """Makes areas of VMAs of one address space."""

    def __init__(self, records: Records, names: NameTable, mm: Record) -> None:
        self._records = records
        self._brk = mm["start_brk"], mm["brk"]
        self._stack = mm["start_stack"]
        self._special = names.address("special_mapping_vmops")
        self._paths: dict[int, str] = {}

    def area(self, vma: Record) -> Area:
        start, end, flags = vma["vm_start"], vma["vm_end"], vma["vm_flags"]
        if end <= start:
            raise BrokenList(f"the area at {vma.address:#x} ends before it begins")
        rights = "".join(letter if flags & bit else "-" for bit, letter in _RIGHTS) + ("s" if flags & _SHARED else "p")
        file = vma.at("vm_file", "file")
        if file is not None:
            return Area(start, end, rights, vma["vm_pgoff"] << PAGE_SHIFT, self._path(file))
        return Area(start, end, rights, 0, self._name(vma, start, end))

    def _name(self, vma: Record, start: int, end: int) -> str:
        """What /proc/PID/maps calls an area without a file (fs/proc/task_mmu.c)."""
        if self._special is not None and vma["vm_ops"] == self._special:
            mapping = vma.at("vm_private_data", "vm_special_mapping")
            return "" if mapping is None else self._records.space.text(mapping["name"], _LONGEST_NAME)
        if start <= self._brk[1] and end >= self._brk[0]:
            return "[heap]"
        return "[stack]" if start <= self._stack <= end else ""

    def _path(self, file: Record) -> str:
        known = self._paths.get(file.address)
        if known is None:
            known = self._paths[file.address] = path_of(self._records, file["f_path.dentry"], file["f_path.mnt"])
        return known


def path_of(records: Records, dentry: int, vfsmount: int) -> str:
    """The path of a directory entry from the root of all mounts (fs/d_path.c). Raises NotReadable, BrokenList."""
    try:
        mount: Record | None = records.containing("mount", "mnt", vfsmount)
    except GuestOsError:
        mount = None
    parts: list[str] = []
    at = records("dentry", dentry)
    for _ in range(_MOST_COMPONENTS):
        parent = at["d_parent"]
        if mount is not None and at.address == mount["mnt.mnt_root"]:
            above = mount["mnt_parent"]
            if above == mount.address:
                return "/" + "/".join(reversed(parts))
            at, mount = records("dentry", mount["mnt_mountpoint"]), records("mount", above)
        elif parent == at.address:
            return "/" + "/".join(reversed(parts))
        else:
            parts.append(records.space.text(at["d_name.name"], _LONGEST_NAME))
            at = records("dentry", parent)
    raise BrokenList(f"the path of the directory entry at {dentry:#x} has no end")
