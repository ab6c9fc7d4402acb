"""Layouts of structures out of what is in memory, for kernels without BTF.

Each field is one that only it can be: `tasks` is the ring of structures that all have a name where init_task has
"swapper"; pid and tgid are two numbers that are 0, 0 in the first of them, 1, 1 in the second; the page table is the page
with the kernel's own entries in its upper half; and so on. What no test finds stays unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from dbgvmm.guest_os.interface import GuestOsError
from dbgvmm.guest_os.linux.layouts import Field, Layouts, Release
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.reading import TABLE_ADDRESS, AddressSpace, NotReadable
from dbgvmm.hardware.layout import PAGE_SIZE

_POINTER: Final = 8
_KERNEL: Final = 1 << 63
_LARGEST_TASK: Final = 16384
_COMM: Final = 16
_MOST_TASKS: Final = 4096
_STACK_ALIGNMENT: Final = 0x4000
_EARLIEST_STACK, _LATEST_STACK = 16, 64
_LARGEST_MM: Final = 512
_LARGEST_MODULE: Final = 1536
_LARGEST_PART: Final = 64 << 20
_MEMORY_BEFORE_6_4: Final = 24
"""struct module_layout up to its tree node: base, size, text_size, ro_size, ro_after_init_size."""
_MEMORY_SINCE_6_4: Final = 16
"""struct module_memory up to its tree node: base, size."""
_KTHREAD: Final = 0x0020_0000
_RENAMED_STATE: Final = (5, 14)


def infer_tasks(space: AddressSpace, names: NameTable, release: Release) -> dict[str, Field]:
    """Fields of task_struct, as far as they are found; "tasks", "comm", "pid", "tgid" always. Raises GuestOsError."""
    first = names.address("init_task")
    if first is None:
        raise GuestOsError("Linux' symbols have no init_task: it was built without CONFIG_KALLSYMS_ALL")
    try:
        return _Tasks(space, names, first, release).fields()
    except NotReadable as error:
        raise GuestOsError(f"the layout of Linux' tasks cannot be told: {error}") from error


class _Tasks:
    """Looks at all tasks at once: a field has to fit for each."""

    def __init__(self, space: AddressSpace, names: NameTable, first: int, release: Release) -> None:
        self._space = space
        self._names = names
        self._first = first
        self._release = release
        self._comm = self._find_comm()
        self._tasks, self._all = self._find_tasks()
        self._content = [space.read(address, self._comm) for address in self._all]

    def _find_comm(self) -> int:
        content = self._space.read(self._first, PAGE_SIZE)
        while len(content) < _LARGEST_TASK and b"swapper" not in content:
            content += self._space.read(self._first + len(content), PAGE_SIZE)
        at = content.find(b"swapper/0\0")
        at = at if at >= 0 else content.find(b"swapper\0")
        if at < 0:
            raise GuestOsError("the layout of Linux' tasks cannot be told: init_task is not called swapper")
        return at

    def _find_tasks(self) -> tuple[int, list[int]]:
        best: tuple[int, list[int]] = 0, []
        for offset in range(0, self._comm, _POINTER):
            ring = self._ring(offset)
            if len(ring) > len(best[1]):
                best = offset, ring
        if len(best[1]) < 3:
            raise GuestOsError("the layout of Linux' tasks cannot be told yet: there are too few; `continue` for a while")
        return best

    def _ring(self, offset: int) -> list[int]:
        """The structures on a ring through `offset`, if all of them have names and links back."""
        found = [self._first]
        try:
            at, before = self._space.u64(self._first + offset), self._first + offset
            while at != self._first + offset:
                if at < _KERNEL or at % _POINTER or len(found) >= _MOST_TASKS or self._space.u64(at + _POINTER) != before:
                    return []
                if not _is_name(self._space.read(at - offset + self._comm, _COMM)):
                    return []
                found.append(at - offset)
                at, before = self._space.u64(at), at
        except NotReadable:
            return []
        return found if len(set(found)) == len(found) else []

    def _column(self, offset: int, size: int) -> list[int]:
        return [int.from_bytes(content[offset : offset + size], "little") for content in self._content]

    def fields(self) -> dict[str, Field]:
        found = {"comm": Field(self._comm, _COMM), "tasks": Field(self._tasks, 16), "tasks.next": Field(self._tasks, 8)}
        pid = self._find_pid()
        found |= {"pid": Field(pid, 4), "tgid": Field(pid + 4, 4)}
        parent = next((at for at in range(pid + 8, self._comm - 7, _POINTER) if self._is_parent(at)), None)
        if parent is not None:
            found["real_parent"] = Field(parent, 8)
        mm = next((at for at in range(self._tasks + 16, pid - 8, _POINTER) if self._is_mm(at)), None)
        if mm is not None:
            found["mm"] = Field(mm, 8)
        stack = next((at for at in range(_EARLIEST_STACK, _LATEST_STACK, _POINTER) if self._is_stack(at)), None)
        if stack is not None:
            found |= {"stack": Field(stack, 8), "flags": Field(stack + 12, 4)}
            if self._release >= _RENAMED_STATE:
                found["__state"] = Field(stack - 8, 4)
            else:
                found["state"] = Field(stack - 8, 8)
        return found

    def _find_pid(self) -> int:
        for at in range(self._tasks, self._comm - 7, 4):
            pids = self._column(at, 4)
            if pids[:3] == [0, 1, 2] and pids == self._column(at + 4, 4) and len(set(pids)) == len(pids):
                return at
        raise GuestOsError("the layout of Linux' tasks cannot be told: no numbers in them look like those of processes")

    def _is_parent(self, at: int) -> bool:
        """The idle task is its own, and that of the first two; all are tasks."""
        parents = self._column(at, 8)
        return parents[:3] == [self._first] * 3 and set(parents) <= set(self._all)

    def _is_mm(self, at: int) -> bool:
        """`mm` is followed by `active_mm`, which is the same where there is one; the idle task and pid 2 have none."""
        own, active = self._column(at, 8), self._column(at + 8, 8)
        if own[0] or own[2] or not any(own):
            return False
        pairs = zip(own, active, strict=True)
        return all(not mine or (mine == theirs > _KERNEL and not mine % _POINTER) for mine, theirs in pairs)

    def _is_stack(self, at: int) -> bool:
        """Aligned and of its own for each; behind it, flags that tell pid 2 for a kernel thread."""
        stacks = self._column(at, 8)
        aligned = all(stack > _KERNEL and not stack % _STACK_ALIGNMENT for stack in stacks)
        return aligned and len(set(stacks)) == len(stacks) and bool(self._column(at + 12, 4)[2] & _KTHREAD)


def _is_name(data: bytes) -> bool:
    text, nul, _ = data.partition(b"\0")
    return bool(text and nul) and all(32 <= byte < 127 for byte in text)


def infer_page_table(space: AddressSpace, mm: int) -> dict[str, Field]:
    """`pgd` of mm_struct: the page whose entry for the kernel's image is the kernel's own. Empty if none is."""
    ram = space.ram
    kernel = ram.u64[(space.cr3 + 8 * 511) >> 3] & TABLE_ADDRESS
    try:
        words = struct.unpack(f"<{_LARGEST_MM // 8}Q", space.read(mm, _LARGEST_MM))
    except NotReadable:
        return {}
    for index, word in enumerate(words):
        if word > _KERNEL and not word % PAGE_SIZE:
            try:
                if space.u64(word + 8 * 511) & TABLE_ADDRESS == kernel:
                    return {"pgd": Field(8 * index, 8)}
            except NotReadable:
                continue
    return {}


def infer_module(space: AddressSpace, module: int, release: Release) -> dict[str, Field]:
    """Where a module has its parts (each has a tree node that points back to it) and its names. Empty if not found."""
    try:
        content = space.read(module, _LARGEST_MODULE)
    except NotReadable:
        return {}
    words = struct.unpack(f"<{len(content) // 8}Q", content)
    found: dict[str, Field] = {}
    late = release >= (6, 4)
    before = _MEMORY_SINCE_6_4 if late else _MEMORY_BEFORE_6_4
    nodes = [8 * index - before for index, word in enumerate(words) if word == module and 8 * index >= before]
    # Other structures point back too, but not behind the address of a page and a size.
    parts = [at for at in nodes if not words[at // 8] % PAGE_SIZE and words[at // 8 + 1] & 0xFFFF_FFFF < _LARGEST_PART]
    for number, at in enumerate(parts):
        name = f"mem[{number}]" if late else ("core_layout", "init_layout", "data_layout")[min(number, 2)]
        found |= {f"{name}.base": Field(at, 8), f"{name}.size": Field(at + 8, 4)}
    for index, word in enumerate(words):
        if module < word < module + _LARGEST_MODULE and _is_kallsyms(space, word):
            found["kallsyms"] = Field(8 * index, 8)
            break
    return found


def _is_kallsyms(space: AddressSpace, address: int) -> bool:
    """symtab, how many, strtab: and the names begin with an empty one."""
    try:
        symtab, count, strtab = struct.unpack("<QIxxxxQ", space.read(address, 24))
        return symtab > _KERNEL and 0 < count < 1 << 20 and strtab > symtab and space.read(symtab, 24) == bytes(24)
    except NotReadable:
        return False


def infer_log(space: AddressSpace, ring: int) -> dict[str, Field]:
    """The text's ring in printk_ringbuffer, which came 8 bytes later in 5.18."""
    for at in _candidates(space, ring):
        return {"text_data_ring.size_bits": Field(at, 4), "text_data_ring.data": Field(at + 8, 8)}
    return {}


def _candidates(space: AddressSpace, ring: int) -> Iterator[int]:
    for at in (40, 48):
        try:
            bits, data = struct.unpack("<QQ", space.read(ring + at, 16))
        except NotReadable:
            return
        if 8 <= bits & 0xFFFF_FFFF <= 30 and data > _KERNEL:
            yield at


def add_inferred(layouts: Layouts, space: AddressSpace, names: NameTable, release: Release) -> bool:
    """Add what memory tells now. Whether that is all that can ever be found."""
    complete = True
    log = names.address("prb")
    modules = names.address("modules")
    try:
        if log is not None:
            layouts.know("printk_ringbuffer", infer_log(space, space.u64(log)))
        if modules is not None:
            first = space.u64(modules)
            found = infer_module(space, first - layouts.field("module", "list").offset, release) if first != modules else {}
            layouts.know("module", found)
            complete = bool(found)
    except NotReadable:
        complete = False
    try:
        tasks = infer_tasks(space, names, release)
    except GuestOsError:
        return False
    layouts.know("task_struct", tasks)
    if "mm" not in tasks:
        return False
    at, init = tasks["tasks"].offset, names.address("init_task")
    assert init is not None
    second = space.u64(init + at) - at
    mm = space.u64(second + tasks["mm"].offset)
    page_table = infer_page_table(space, mm) if mm else {}
    layouts.know("mm_struct", page_table)
    return complete and bool(page_table)
