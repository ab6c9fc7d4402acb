"""The target descriptions of 16-, 32- and 64-bit code, and their registers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from dbgvmm import Machine
from dbgvmm.cpu.bits import SReg
from dbgvmm.debug.gdb_description import target_description
from dbgvmm.debug.gdb_layouts import LAYOUTS, LONG, PROTECTED, REAL, Layout
from dbgvmm.debug.gdb_target import GdbTarget
from dbgvmm.debug.registers import write_register
from gdbstub import ONLY_THREAD

BootedMachine = Callable[..., Machine]
EVERY = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.architecture)
NARROW_CORE = (
    "eax ecx edx ebx esp ebp esi edi eip eflags cs ss ds es fs gs "
    "st0 st1 st2 st3 st4 st5 st6 st7 fctrl fstat ftag fiseg fioff foseg fooff fop"
)


def names(layout: Layout, feature: str) -> str:
    root = ElementTree.fromstring(target_description(layout))
    (found,) = (element for element in root.iter("feature") if element.get("name") == feature)
    return " ".join(reg.get("name", "") for reg in found.iter("reg"))


@pytest.mark.parametrize("layout", [PROTECTED, REAL])
def test_narrow_layouts_have_gdbs_names_in_gdbs_order(layout: Layout) -> None:
    assert names(layout, "org.gnu.gdb.i386.core") == NARROW_CORE
    assert names(layout, "org.gnu.gdb.i386.sse") == "xmm0 xmm1 xmm2 xmm3 xmm4 xmm5 xmm6 xmm7 mxcsr"


@EVERY
def test_each_layout_has_all_system_registers(layout: Layout) -> None:
    for feature in ("org.dbgvmm.system", "org.dbgvmm.tables", "org.dbgvmm.debug", "org.dbgvmm.msr"):
        assert names(layout, feature) == names(LONG, feature) != ""


@EVERY
def test_the_descriptions_order_is_the_order_of_the_numbers(layout: Layout) -> None:
    regs = list(ElementTree.fromstring(target_description(layout)).iter("reg"))
    assert [reg.get("name") for reg in regs] == [row.name for row in layout.all]
    assert [int(reg.get("bitsize", "0")) for reg in regs] == [row.bits for row in layout.all]


@EVERY
def test_gdb_keeps_to_the_description_whatever_file_it_has(layout: Layout) -> None:
    root = ElementTree.fromstring(target_description(layout))
    assert root.findtext("architecture") == layout.architecture
    compatible = {element.text for element in root.iter("compatible")}
    assert compatible == {other.architecture for other in LAYOUTS} - {layout.architecture}


@EVERY
def test_a_pointer_type_has_the_size_of_its_register(layout: Layout) -> None:
    """gdb takes `data_ptr` to have the architecture's size."""
    root = ElementTree.fromstring(target_description(layout))
    pointers = [reg for reg in root.iter("reg") if reg.get("type") in ("data_ptr", "code_ptr")]
    assert {reg.get("bitsize") for reg in pointers} == {"64" if layout is LONG else "32"}
    fields = {field.get("type") for structure in root.iter("struct") for field in structure}
    assert ("data_ptr" in fields) is (layout is LONG)


@pytest.fixture
def narrow(booted: BootedMachine) -> GdbTarget:
    """A debugger's view of a machine in 32-bit mode that has told that it can follow."""
    target = GdbTarget(booted("hello"))
    target.takes_exec_events = True
    return target


def number(layout: Layout, name: str) -> int:
    return [row.name for row in layout.all].index(name)


def test_the_block_is_what_the_registers_give_one_by_one(narrow: GdbTarget, booted: BootedMachine) -> None:
    machine = narrow._machine
    for index, name in enumerate(("rbx", "rsp", "st0", "st7", "fctrl", "xmm0", "xmm7", "mxcsr", "gs_base")):
        write_register(machine, name, 0x1230 + index)
    singly = [narrow.read_register(ONLY_THREAD, index) for index in range(narrow.block_registers)]
    assert narrow.read_block(ONLY_THREAD) == b"".join(item or b"" for item in singly)
    assert len(narrow.read_block(ONLY_THREAD)) == sum(narrow.register_sizes[: narrow.block_registers])


def test_a_narrow_register_is_the_lower_half_and_a_write_clears_the_upper(narrow: GdbTarget) -> None:
    gpr = narrow._machine.cpu.gpr
    gpr[1] = 0x1122_3344_5566_7788
    assert narrow.read_register(ONLY_THREAD, 1) == bytes.fromhex("88776655")
    narrow.write_register(ONLY_THREAD, 1, bytes.fromhex("01020384"))
    assert gpr[1] == 0x8403_0201


def test_whole_registers_are_there_by_their_64_bit_names(narrow: GdbTarget) -> None:
    narrow._machine.cpu.gpr[4] = 0x1122_3344_5566_7788
    assert narrow.read_register(ONLY_THREAD, number(PROTECTED, "rsp")) == bytes.fromhex("8877665544332211")
    assert number(PROTECTED, "rip") >= narrow.block_registers, "and gdb reads them only when it wants them"


def test_expedited_registers_are_program_counter_stack_and_frame(narrow: GdbTarget) -> None:
    assert [narrow.register_name(index)[::2] for index in narrow.expedited_registers] == [
        ("eip", "pc"), ("esp", "sp"), ("ebp", "fp"),
    ]  # fmt: skip


def test_system_registers_keep_their_64_bits(narrow: GdbTarget) -> None:
    narrow._machine.cpu.segs[SReg.FS].base = 0x1234_5678_9ABC
    assert narrow.read_register(ONLY_THREAD, number(PROTECTED, "fs_base")) == (0x1234_5678_9ABC).to_bytes(8, "little")
