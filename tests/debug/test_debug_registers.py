"""Registers by name, and the target description that gdb gets."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from dbgvmm.commands import Session
from dbgvmm.cpu.bits import RFLAGS
from dbgvmm.debug.gdb_description import GDB_REGISTERS, target_description
from dbgvmm.debug.register_row import RegisterError
from dbgvmm.debug.registers import REGISTERS, read_register, write_register
from dbgvmm.debug.system_registers import HIDDEN
from dbgvmm.hardware.fpu import read_fpu

GDB_CORE = (
    "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags cs ss ds es fs gs "
    "st0 st1 st2 st3 st4 st5 st6 st7 fctrl fstat ftag fiseg fioff foseg fooff fop"
)


def test_the_core_feature_has_gdbs_names_in_gdbs_order() -> None:
    root = ElementTree.fromstring(target_description())
    features = {feature.get("name"): feature for feature in root.iter("feature")}
    core = features["org.gnu.gdb.i386.core"]
    assert " ".join(reg.get("name", "") for reg in core.iter("reg")) == GDB_CORE
    sse = [reg.get("name") for reg in features["org.gnu.gdb.i386.sse"].iter("reg")]
    assert sse == [*(f"xmm{n}" for n in range(16)), "mxcsr"]
    segments = [reg.get("name") for reg in features["org.gnu.gdb.i386.segments"].iter("reg")]
    assert segments == ["fs_base", "gs_base"]


def test_the_descriptions_order_is_the_order_of_the_numbers() -> None:
    root = ElementTree.fromstring(target_description())
    assert [reg.get("name") for reg in root.iter("reg")] == [row.name for row in GDB_REGISTERS]
    assert [int(reg.get("bitsize", "0")) for reg in root.iter("reg")] == [row.bits for row in GDB_REGISTERS]


def test_every_type_is_predefined_or_described_before_it_is_used() -> None:
    known = {"int", "int32", "int64", "uint64", "uint128", "data_ptr", "code_ptr", "i387_ext"}
    known |= {"ieee_single", "ieee_double", "int8", "int16", "uint16", "uint32"}
    for element in ElementTree.fromstring(target_description()).iter():
        kind = element.get("type")
        assert kind is None or kind in known
        if element.tag in ("flags", "vector", "union", "struct"):
            known.add(element.get("id", ""))


def test_the_control_registers_have_their_bits_names() -> None:
    flags = {item.get("id"): item for item in ElementTree.fromstring(target_description()).iter("flags")}
    fields = {field.get("name"): field.get("start") for field in flags["cr0_flags"]}
    assert fields["PG"] == "31"
    assert fields["WP"] == "16"
    iopl = next(field for field in flags["i386_eflags"] if field.get("name") == "IOPL")
    assert (iopl.get("start"), iopl.get("end")) == ("12", "13")


# What not every value may be written to has tests of its own, in test_system_registers.py too.
_CHECKED = {"cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr4", "efer", "dr6", "dr7", "pat", "misc_enable", "mtrr_def_type"}
_CHECKED |= {row.name for rows in HIDDEN.values() for row in rows} - {"fs_base", "gs_base"} | {"apic_base"}


@pytest.mark.parametrize("name", sorted(set(REGISTERS) - _CHECKED))
def test_a_register_keeps_what_is_written(hello: Session, name: str) -> None:
    value = {"eflags": RFLAGS.FIXED | RFLAGS.CF | RFLAGS.IF, "ftag": 0x5555, "cr8": 5}.get(name, 0x60)
    write_register(hello.machine, name, value)
    assert read_register(hello.machine, name) == value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cr0", 0x8000_0000, "cr0 cannot be"),
        ("cr4", 1 << 40, "cr4 cannot be"),
        ("efer", 1 << 20, "efer cannot be"),
        ("eflags", 1 << 15, "reserved"),
        ("mxcsr", 1 << 20, "reserved"),
        ("cs", 0x123, "only be loaded by the guest"),
        ("fs_base", 1 << 60, "not a canonical"),
        ("cs", 1 << 40, "too few"),
        ("nothing", 1, "no register"),
    ],
)
def test_a_value_that_the_cpu_would_refuse_changes_nothing(hello: Session, name: str, value: int, words: str) -> None:
    before = read_register(hello.machine, name) if name in REGISTERS else 0
    with pytest.raises(RegisterError) as caught:
        write_register(hello.machine, name, value)
    assert words in str(caught.value)
    assert name not in REGISTERS or read_register(hello.machine, name) == before


def test_a_register_that_is_set_is_what_the_guest_goes_on_with(hello: Session) -> None:
    machine = hello.machine
    kmain = hello.symbols.find("kmain")
    assert kmain is not None
    machine.breakpoints.add(kmain.address)
    machine.run()
    machine.memory.poke(kmain.address, bytes.fromhex("4889d8 660f6fc1 d9e8"))  # mov rax, rbx; movdqa xmm0, xmm1; fld1
    write_register(machine, "rbx", 0x1122)
    write_register(machine, "xmm1", 0x3344 << 64)
    machine.step(3)
    assert read_register(machine, "rax") == 0x1122
    assert read_register(machine, "xmm0") == 0x3344 << 64
    assert read_register(machine, "st0") == 0x3FFF_8000_0000_0000_0000


def test_the_fpu_is_as_after_reset_when_a_guest_begins(hello: Session) -> None:
    assert read_fpu(hello.machine.engine, "mxcsr") == (0x1F80).to_bytes(4, "little")
    assert read_fpu(hello.machine.engine, "fctrl") == (0x40).to_bytes(2, "little")
    assert read_fpu(hello.machine.engine, "ftag") == (0x5555).to_bytes(2, "little")
