"""`Linux`: the `GuestOs` of a 64-bit Linux kernel, put together from what reads each of its tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from dbgvmm.guest_os.interface import ABILITIES, Area, GuestMachine, GuestOs, GuestOsError, Listing, LogLine, Module, Task
from dbgvmm.guest_os.linux.areas import has_areas, read_areas
from dbgvmm.guest_os.linux.btf import Btf
from dbgvmm.guest_os.linux.image import KERNEL_MAP, KernelImage, find_image, kernel_half
from dbgvmm.guest_os.linux.inference import add_inferred
from dbgvmm.guest_os.linux.kallsyms import read_kallsyms
from dbgvmm.guest_os.linux.layouts import Layouts, Types, stable_layouts
from dbgvmm.guest_os.linux.modules import ModuleNames, Modules
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.orc import OrcRule
from dbgvmm.guest_os.linux.orc_method import OrcMethod
from dbgvmm.guest_os.linux.orc_tables import OrcTables
from dbgvmm.guest_os.linux.printk import read_log
from dbgvmm.guest_os.linux.records import Record, Records
from dbgvmm.guest_os.linux.syscalls import syscall_names
from dbgvmm.guest_os.linux.tasks import Tasks
from dbgvmm.guest_os.reading import AddressSpace, NotReadable, translate

if TYPE_CHECKING:
    from dbgvmm.debug.symbols import SymbolSource
    from dbgvmm.debug.unwind import UnwindMethod

_LINK_ADDRESS = KERNEL_MAP + 0x100_0000
"""Where _text is without KASLR: CONFIG_PHYSICAL_START, 16 MiB."""
_LONGEST_BANNER = 512
_LARGEST_BTF = 64 << 20
_NO_TABLES = "Linux has not set up its own page tables yet: `continue` for a while, stop, and ask again"


def detect_linux(machine: GuestMachine) -> GuestOs | None:
    """The Linux that runs. Raises GuestOsError if it is one, but cannot be read (yet)."""
    image = find_image(machine.ram, machine.cpu)
    if image is not None:
        return Linux(machine, image)
    state = machine.boot_state
    if state is not None and state.protocol == "linux":
        raise GuestOsError(_NO_TABLES)
    return None


class Linux(GuestOs):
    """Reads the kernel whose image was found. Raises GuestOsError if that has no names (kallsyms).

    space: the kernel's address space, whatever process runs.
    """

    name = "Linux"

    def __init__(self, machine: GuestMachine, image: KernelImage) -> None:
        self._machine = machine
        self._image = image
        self.space = AddressSpace(machine.ram, image.cr3)
        self._names = NameTable(read_kallsyms(image, self.space), "kallsyms, in guest memory", image.end)
        self._banner_at = self._symbol("linux_banner")
        self.space = AddressSpace(machine.ram, self._kernel_tables())
        self._banner = self.space.text(self._banner_at, _LONGEST_BANNER).removesuffix("\\n")
        self._no_orc = False
        self._complete = False
        self._inferred_at = -1
        self._walked_at = -1
        """The TLB's generation when `running` last let go of its translations."""

    def _symbol(self, name: str) -> int:
        address = self._names.address(name)
        if address is None:
            raise GuestOsError(f"Linux' symbols have no {name}: it was built without CONFIG_KALLSYMS_ALL")
        return address

    def _kernel_tables(self) -> int:
        """Page tables that map all of the kernel whatever runs: init's own, as soon as they do."""
        top = self._names.address("init_top_pgt") or self._names.address("init_level4_pgt")
        if top is not None:
            try:
                tables = self.space.physical(top)
                AddressSpace(self._machine.ram, tables).read(self._banner_at, 1)
            except NotReadable:
                pass  # still on the tables that it was started with
            else:
                return tables
        return self._image.cr3

    def _fresh(self) -> Records:
        """The guest may have run since: translations are looked up anew."""
        self.space.forget()
        self._infer()
        return self._records

    @cached_property
    def types(self) -> Types:
        """The layouts of the kernel's structures: its own description (BTF), or what memory tells."""
        return self._btf() or self._inferred

    @cached_property
    def _inferred(self) -> Layouts:
        return stable_layouts(self._image.release)

    def _infer(self) -> None:
        """Without BTF, memory tells more and more while the kernel sets itself up."""
        if self.types is self._inferred and not self._complete and self._inferred_at != self._machine.count:
            self._inferred_at = self._machine.count
            self._complete = add_inferred(self._inferred, self.space, self._names, self._image.release)

    def _btf(self) -> Btf | None:
        """None if the kernel has none, or one that is damaged: then its layouts have to be found otherwise."""
        start, end = self._names.address("__start_BTF"), self._names.address("__stop_BTF")
        if start is None or end is None or not 0 < end - start < _LARGEST_BTF:
            return None
        try:
            return Btf(self.space.read(start, end - start))
        except (NotReadable, GuestOsError):
            return None

    def record(self, kind: str, address: int) -> Record:
        """The structure of that kind at a linear address: `record("task_struct", task.address)["prio"]` for scripts."""
        return self._fresh()(kind, address)

    @cached_property
    def _records(self) -> Records:
        return Records(self.space, self.types)

    @cached_property
    def _tasks(self) -> Tasks:
        return Tasks(self._names, self._records)

    @cached_property
    def _modules(self) -> Modules:
        return Modules(self._names, self._records)

    @cached_property
    def _orc(self) -> OrcTables:
        modules = self._modules if self._names.address("modules") is not None else None
        return OrcTables(self._names, self._records, modules, (self._image.start, self._image.end), lambda: self._machine.count)

    # -- what it is

    @property
    def version(self) -> str:
        """The banner: release, compiler, build."""
        return self._banner

    def present(self) -> bool:
        """Whether the CPU is on page tables that map the banner where it was."""
        cpu, ram = self._machine.cpu, self._machine.ram
        if not cpu.long_mode_active or all(
            translate(ram, cr3, self._banner_at) is None for cr3 in (cpu.cr3, kernel_half(cpu.cr3))
        ):
            return False
        self.space.forget()
        try:
            return self.space.text(self._banner_at, _LONGEST_BANNER).removesuffix("\\n") == self._banner
        except NotReadable:
            return False

    def abilities(self) -> dict[str, str]:
        """Names alone where the kernel has no BTF."""
        self._fresh()
        checks: dict[str, Callable[[], object]] = {
            "symbols": lambda: self._names, "modules": lambda: self._modules, "tasks": lambda: self._tasks,
            "areas": self._check_areas, "log": self.log, "syscalls": self.syscalls, "unwind": lambda: self._orc,
        }  # fmt: skip
        return {ability: _problem(checks[ability]) for ability in ABILITIES}

    def _check_areas(self) -> None:
        if not has_areas(self._records):
            raise GuestOsError("this Linux does not describe its types (BTF), and memory does not tell these layouts")

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Where it is, how many names it has."""
        self._fresh()
        text = self._symbol("_text")
        slide = text - _LINK_ADDRESS
        end = self._names.address("_end") or self._image.end
        modules = self._module_names
        return (
            ("image", f"{text:#x} to {end:#x}, physical {self.space.physical(text):#x}"),
            ("KASLR", f"moved by {slide:#x}" if slide else "not moved"),
            ("page tables", f"{self.space.cr3:#x}"),
            ("layouts", "described by the kernel itself (BTF)" if self.types is not self._inferred else "told from memory"),
            ("symbols", f"{len(self._names):,}, and {0 if modules is None else len(modules):,} of modules"),
        )

    # -- names

    @cached_property
    def _module_names(self) -> ModuleNames | None:
        try:
            return ModuleNames(self._modules, (self._image.start, self._image.end), lambda: self._machine.count, self._fresh)
        except GuestOsError:
            return None

    def symbol_sources(self) -> Sequence[SymbolSource]:
        """kallsyms, and the modules'."""
        modules = self._module_names
        return (self._names,) if modules is None else (modules, self._names)

    def syscalls(self) -> dict[int, str]:
        """See GuestOs."""
        self.space.forget()
        return syscall_names(self._names, self.space)

    # -- what runs

    def current_task(self) -> Task | None:
        """See GuestOs."""
        self._fresh()
        address = self._tasks.current_address(self._machine.cpu.index)
        if address is None:
            return None
        try:
            return self._tasks.at(address, address)
        except NotReadable as error:
            raise GuestOsError(f"the running task's structure is damaged: {error}") from error

    def running(self) -> tuple[int, str] | None:
        """See GuestOs."""
        generation = self._machine.memory.generation
        if self._walked_at != generation:  # what has not been flushed the guest goes by, too
            self._fresh()
            self._walked_at = generation
        address = self._tasks.current_address(self._machine.cpu.index)
        try:
            return None if address is None else self._tasks.identity(address)
        except NotReadable as error:
            raise GuestOsError(f"the running task's structure is damaged: {error}") from error

    def tasks(self, *, threads: bool = False) -> Listing[Task]:
        """See GuestOs."""
        self._fresh()
        return self._tasks.list(threads=threads, current=self._tasks.current_address(self._machine.cpu.index))

    def areas(self, task: Task) -> Listing[Area]:
        """See GuestOs."""
        return read_areas(self._fresh(), self._names, task.address)

    def modules(self) -> Listing[Module]:
        """See GuestOs."""
        self._fresh()
        return self._modules.list()

    def log(self) -> Listing[LogLine]:
        """See GuestOs."""
        return read_log(self._fresh(), self._names)

    def unwind_method(self) -> UnwindMethod:
        """ORC. It knows no place if the kernel was built without it, or its tables are damaged: `abilities` says so."""
        return OrcMethod(self._orc_entry)

    def _orc_entry(self, pc: int) -> OrcRule | None:
        if pc < KERNEL_MAP or self._no_orc:
            return None
        try:
            return self._orc.find(pc)
        except GuestOsError:
            self._no_orc = True
            return None


def _problem(check: Callable[[], object]) -> str:
    try:
        check()
    except GuestOsError as error:
        return str(error)
    return ""
