"""A running Linux, moved by KASLR, as its memory tells it: the same that it says of itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from linux_guest import LINUX, MODULES, LinuxGuest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.guest_os import GuestOsError
from dbgvmm.guest_os.linux.layouts import Layouts
from dbgvmm.guest_os.linux.names import NameTable
from dbgvmm.guest_os.linux.system import Linux, detect_linux
from dbgvmm.guest_os.reading import translate
from dbgvmm.repl import status_line

pytestmark = [
    pytest.mark.xdist_group("linux-os"),  # one boot for all of them
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (LINUX / "modules.cpio").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]
LINKED_AT = 0xFFFF_FFFF_8100_0000
RCX = 1


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> LinuxGuest:
    return LinuxGuest(tmp_path_factory.mktemp("linux") / "initramfs.cpio")


@pytest.fixture
def session(linux: LinuxGuest) -> Session:
    linux.machine.os  # noqa: B018 - from here on its names are known
    return Session(linux.machine)


def system(linux: LinuxGuest) -> Linux:
    found = linux.machine.os
    assert isinstance(found, Linux)
    return found


def symbol(linux: LinuxGuest, name: str) -> int:
    found = linux.machine.symbols.find(name)
    assert found is not None, name
    return found.address


def name_tables(linux: LinuxGuest) -> Iterator[tuple[NameTable, str]]:
    """kallsyms, then each module's, with what /proc/kallsyms writes behind the names."""
    modules, kernel = linux.machine.os.symbol_sources()
    assert isinstance(kernel, NameTable)
    yield kernel, "\n"
    for table in modules.tables():  # type: ignore[attr-defined]  # of the class that only Linux has
        yield table, f"\t[{table.source}]\n"


def test_its_names_are_those_of_proc_kallsyms_modules_included(linux: LinuxGuest) -> None:
    ours = "".join(
        f"{address:016x} {kind} {name}{end}"
        for table, end in name_tables(linux)
        for address, kind, name in zip(table.table.addresses, table.table.kinds, table.table.names, strict=True)
    )
    assert ours.count("\n") > 80_000
    assert hashlib.sha256(ours.encode()).hexdigest() in linux.shell("sha256sum /proc/kallsyms")


def test_it_was_moved_and_names_follow(linux: LinuxGuest, session: Session) -> None:
    assert symbol(linux, "_text") != LINKED_AT
    assert linux.machine.symbols.describe(linux.machine.cpu.lstar) == "entry_SYSCALL_64"
    assert linux.machine.os.version == linux.shell("cat /proc/version").strip()


def test_the_release_is_in_the_version(linux: LinuxGuest) -> None:
    assert linux.machine.os.name == "Linux"
    assert f"Linux version {linux.shell('uname -r').strip()} " in linux.machine.os.version


def test_its_modules_are_those_of_proc_modules(linux: LinuxGuest) -> None:
    said = [line.split() for line in linux.shell("cat /proc/modules").splitlines()]
    listing = linux.machine.os.modules()
    assert listing.problem == ""
    ours = [(module.name, module.size, module.base, module.state) for module in listing.items]
    assert ours == [(word[0], int(word[1]), int(word[5], 16), word[4].lower()) for word in said if len(word) > 5]
    assert {module.name for module in listing.items} == set(MODULES)


def test_an_unloaded_module_is_gone_with_its_names(linux: LinuxGuest, session: Session) -> None:
    known = symbol(linux, "irq_bypass_register_producer")
    assert linux.machine.symbols.describe(known + 1) == "irq_bypass_register_producer+0x1"
    linux.shell("rmmod irqbypass")
    assert linux.machine.symbols.find("irq_bypass_register_producer") is None
    assert linux.machine.symbols.describe(known + 1) == ""
    linux.shell("insmod /modules/irqbypass.ko")
    assert symbol(linux, "irq_bypass_register_producer")


def test_its_tasks_are_those_of_proc(linux: LinuxGuest) -> None:
    script = "for d in /proc/[0-9]*; do read line < $d/stat && echo \"$line\"; done"
    said: dict[int, tuple[str, str, int]] = {}
    for line in linux.shell(script).splitlines():
        match = re.fullmatch(r"(\d+) \((.*)\) (\S) (\d+) .*", line)
        assert match is not None, line
        said[int(match[1])] = match[2], match[3], int(match[4])
    listing = linux.machine.os.tasks()
    assert listing.problem == ""
    assert sum(task.name in [name for name, _, _ in said.values()] for task in listing.items) > len(said) - 5
    ours = {task.pid: task for task in listing.items if task.pid}
    assert len(ours) > 30
    assert set(ours) == set(said)
    for pid, (name, state, parent) in said.items():
        task = ours[pid]
        assert task.parent == parent
        assert task.kernel == (pid == 2 or parent == 2)
        assert (task.cr3 is None) == task.kernel
        assert task.name == name or name.startswith("kworker/")  # whose names end with what they have last worked on
        assert task.state == state or "R" in (task.state, state)


def test_threads_of_kernel_and_init_have_the_idle_task_first(linux: LinuxGuest) -> None:
    tasks = linux.machine.os.tasks(threads=True).items
    assert [task.pid for task in tasks[:3]] == [0, 1, 2]
    assert tasks[0].name == "swapper/0"
    assert len(tasks) == len(linux.machine.os.tasks().items)  # busybox has one thread for each process


def test_its_log_is_what_dmesg_says(linux: LinuxGuest) -> None:
    said = linux.shell("dmesg -r").splitlines()
    listing = linux.machine.os.log()
    assert listing.problem == ""
    ours = [
        f"<{line.level}>[{line.time_ns // 10**9:5}.{line.time_ns % 10**9 // 1000:06}] {line.text}"
        for line in listing.items
        if line.time_ns is not None
    ]
    assert len(ours) > 200
    assert ours == said


def test_a_process_has_mapped_what_proc_maps_says(linux: LinuxGuest) -> None:
    said = []
    for line in linux.shell("cat /proc/1/maps").splitlines():
        span, rights, offset, _, _inode, *name = line.split()
        start, end = (int(word, 16) for word in span.split("-"))
        said.append((start, end, rights, int(offset, 16), name[0] if name else ""))
    init = next(task for task in linux.machine.os.tasks().items if task.pid == 1)
    areas = linux.machine.os.areas(init)
    assert areas.problem == ""
    assert [(area.start, area.end, area.rights, area.offset, area.file) for area in areas.items] == said


def test_a_process_page_table_is_the_one_its_memory_is_in(linux: LinuxGuest) -> None:
    init = next(task for task in linux.machine.os.tasks().items if task.pid == 1)
    assert init.cr3 is not None
    text = next(area for area in linux.machine.os.areas(init).items if area.rights == "r-xp")
    header = translate(linux.machine.ram, init.cr3, 0x400000)
    assert text.file == "/bin/busybox"
    assert header is None or linux.machine.ram.read(header, 4) == b"\x7fELF"


def test_system_calls_have_the_numbers_of_the_abi(linux: LinuxGuest) -> None:
    """System V ABI for AMD64, appendix A; asm/unistd_64.h."""
    names = linux.machine.os.syscalls()
    wanted = {0: "read", 1: "write", 2: "open", 9: "mmap", 39: "getpid", 57: "fork", 59: "execve", 60: "exit", 257: "openat"}
    assert {number: names[number] for number in wanted} == wanted
    assert len(names) > 300
    assert 214 not in names  # epoll_ctl_old, which was never there in 64 bits


def test_orc_leads_from_the_depth_of_a_system_call_to_the_instruction_of_the_user(linux: LinuxGuest, session: Session) -> None:
    machine = linux.machine
    linux.type("cat /proc/uptime")
    entered = symbol(linux, "do_sys_openat2")
    returns_to = 0
    while linux.until_breakpoint(machine.cpu.lstar, entered) != entered:
        returns_to = machine.cpu.gpr[RCX]  # where SYSCALL has put the user's RIP
    trace = machine.unwinder.frames()
    found = [(machine.symbols.describe(frame.place).partition("+")[0], frame.how) for frame in trace if not frame.user]
    assert [name for name, _ in found[:1]] == ["do_sys_openat2"]
    assert [name for name, _ in found[-2:]] == ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
    assert {how for _, how in found[1:]} == {"ORC"}
    assert trace[len(found)].user
    assert trace[len(found)].pc == returns_to
    assert machine.unwinder.quick()[: len(trace)] == tuple(frame.pc for frame in trace)
    current = machine.os.current_task()
    assert current is not None
    assert (current.name, current.current) == ("cat", True)
    linux.shell("true")


def test_orc_leads_through_an_interrupt(linux: LinuxGuest, session: Session) -> None:
    linux.until_breakpoint(symbol(linux, "timer_interrupt"))
    names = [linux.machine.symbols.describe(frame.place).partition("+")[0] for frame in linux.machine.unwinder.frames()]
    assert names[0] == "timer_interrupt"
    assert "asm_common_interrupt" in names[:-1]


def test_the_idle_task_leads_back_to_the_first_instructions_that_are_freed_by_now(linux: LinuxGuest, session: Session) -> None:
    linux.until_breakpoint(symbol(linux, "do_idle"))
    machine = linux.machine
    trace = machine.unwinder.frames()
    names = [machine.symbols.describe(frame.place).partition("+")[0] for frame in trace]
    assert names[:2] == ["do_idle", "cpu_startup_entry"]
    assert trace.complete, trace.end
    assert "rest_init" in names
    assert names[-2:] == ["start_kernel", "secondary_startup_64_no_verify"]
    assert machine.unwinder.quick() == tuple(frame.pc for frame in trace)


def test_the_status_line_names_the_task(linux: LinuxGuest, session: Session) -> None:
    linux.until_breakpoint(symbol(linux, "do_idle"))
    assert " CPL 0 | swapper/0 (0) | " in status_line(session)


def test_asking_changes_nothing(linux: LinuxGuest, session: Session, table: CommandTable) -> None:
    def state() -> tuple[object, ...]:
        machine = linux.machine
        memory = hashlib.sha256(machine.ram.bytes).hexdigest()
        return machine.count, machine.cpu.save(), memory, machine.stats()

    before = state()
    lines = "info os, ps, ps --threads, info task 1, dmesg, dmesg 5 --level err, info modules, info syscalls"
    for line in lines.split(", "):
        assert str(table.execute(session, line))
    assert state() == before


def test_a_task_that_is_not_there_is_told(session: Session, table: CommandTable) -> None:
    with pytest.raises(CommandError, match="no task 99999"):
        table.execute(session, "info task 99999")


# -- a kernel that does not describe its types


@pytest.fixture
def undescribed(linux: LinuxGuest, session: Session) -> Iterator[tuple[Linux, Linux]]:
    """The system with its BTF, and as it is found if that is not there."""
    described = system(linux)
    with damaged(linux, symbol(linux, "__start_BTF"), bytes(4)):
        found = detect_linux(linux.machine)
        assert isinstance(found, Linux)
        yield described, found


def test_layouts_told_from_memory_are_those_that_the_kernel_describes(undescribed: tuple[Linux, Linux]) -> None:
    described, told = undescribed
    assert dict(told.facts())["layouts"] == "told from memory"
    told.tasks()
    assert isinstance(told.types, Layouts)
    known = told.types.known()
    known.pop("pcpu_hot")  # which 6.1 does not have
    for name, fields in known.items():
        assert fields == {path: described.types.field(name, path) for path in fields}
    assert {"tasks", "comm", "pid", "tgid", "real_parent", "mm", "stack", "flags", "__state"} <= set(known["task_struct"])
    assert {"core_layout.base", "core_layout.size", "kallsyms"} <= set(known["module"])
    assert set(known["mm_struct"]) == {"pgd"}


def test_without_its_description_tasks_modules_and_log_are_the_same(undescribed: tuple[Linux, Linux]) -> None:
    described, told = undescribed
    for ours, theirs in zip(told.tasks().items, described.tasks().items, strict=True):
        assert theirs.name.startswith(ours.name)  # 15 letters of it
        assert replace(ours, name="") == replace(theirs, name="")
    assert told.modules() == described.modules()
    assert told.log() == described.log()
    assert told.abilities() == {**described.abilities(), "areas": told.abilities()["areas"]}
    with pytest.raises(GuestOsError, match="does not describe its types"):
        told.areas(told.tasks().items[1])


# -- damaged memory


@contextmanager
def damaged(linux: LinuxGuest, address: int, data: bytes) -> Iterator[None]:
    """Other bytes at a linear address of the kernel for a while."""
    machine = linux.machine
    gpa = translate(machine.ram, system(linux).space.cr3, address)
    assert gpa is not None
    before = machine.ram.read(gpa, len(data))
    machine.ram.write(gpa, data)
    try:
        yield
    finally:
        machine.ram.write(gpa, before)


def pointer(value: int) -> bytes:
    return value.to_bytes(8, "little")


def task_link(linux: LinuxGuest, pid: int) -> int:
    """Where a task's `tasks.next` is."""
    task = next(task for task in linux.machine.os.tasks().items if task.pid == pid)
    return system(linux).record("task_struct", task.address).place("tasks")


def test_a_list_of_tasks_that_loops_ends_with_a_message(linux: LinuxGuest) -> None:
    link = task_link(linux, 2)
    with damaged(linux, link, pointer(task_link(linux, 1))):
        listing = linux.machine.os.tasks()
    assert [task.pid for task in listing.items] == [0, 1, 2]
    assert "in circles" in listing.problem


@pytest.mark.parametrize("astray", [0, 8, 1 << 62, (1 << 64) - 8, 0xFFFF_8880_0000_0000 + (1 << 45)])
def test_a_list_of_tasks_that_leads_out_of_memory_ends_with_a_message(linux: LinuxGuest, astray: int) -> None:
    with damaged(linux, task_link(linux, 2), pointer(astray)):
        listing = linux.machine.os.tasks()
    assert [task.pid for task in listing.items] == [0, 1, 2]
    assert "leads astray" in listing.problem


def test_a_list_of_modules_that_loops_ends_with_a_message(linux: LinuxGuest, session: Session) -> None:
    head = symbol(linux, "modules")
    first = system(linux).record("module", linux.machine.os.modules().items[0].address).place("list")
    with damaged(linux, first, pointer(first)):
        listing = linux.machine.os.modules()
        assert "in circles" in listing.problem
    with damaged(linux, head, pointer(0x1234)):
        listing = linux.machine.os.modules()
        assert listing.items == ()
        assert "leads astray" in listing.problem


def test_a_log_that_is_damaged_ends_with_a_message(linux: LinuxGuest, session: Session) -> None:
    with damaged(linux, symbol(linux, "prb"), pointer(0xDEAD_0000_0000)):
        assert "damaged" in linux.machine.os.log().problem
    ring = linux.machine.memory.peek(symbol(linux, "prb"), 8)
    with (
        damaged(linux, int.from_bytes(ring, "little"), b"\xff" * 4),
        pytest.raises(GuestOsError, match="damaged"),
    ):
        linux.machine.os.log()


def test_a_table_of_system_calls_that_is_damaged_is_told(linux: LinuxGuest, session: Session) -> None:
    table = symbol(linux, "sys_call_table")
    with damaged(linux, table, pointer(0x1234)), pytest.raises(GuestOsError, match="damaged"):
        linux.machine.os.syscalls()


# -- before it is up


def test_before_its_page_tables_are_set_up_it_says_so(table: CommandTable) -> None:
    machine = Machine(MachineConfig(memory=256 << 20))
    machine.boot(LINUX / "vmlinuz", "console=ttyS0", LINUX / "initramfs.cpio")
    for count in (0, 1_000_000):
        machine.run(max_count=machine.count + count)
        with pytest.raises(CommandError, match="has not set up its own page tables yet"):
            table.execute(Session(machine), "info os")


def test_the_log_is_there_before_the_console_is_and_names_are_where_they_were_linked() -> None:
    output = bytearray()
    machine = Machine(MachineConfig(memory=256 << 20), output.extend)
    machine.boot(LINUX / "vmlinux", "nokaslr console=ttyS0", LINUX / "initramfs.cpio")
    lines: tuple[str, ...] = ()
    while len(lines) < 20:
        machine.run(max_count=machine.count + 1_000_000)
        assert machine.count < 100_000_000
        try:
            lines = tuple(line.text for line in machine.os.log().items)
        except GuestOsError:
            continue
    assert not output
    assert lines[0] == machine.os.version
    text = machine.symbols.find("_text")
    assert text is not None
    assert text.address == LINKED_AT
    machine.restart()
    with pytest.raises(GuestOsError):
        machine.os  # noqa: B018 - the memory is empty again
    assert machine.symbols.find("_text") is None
