"""Guests that do what no kernel should: each ends in a clear stop, and the machine can still be looked at."""

from __future__ import annotations

import struct
import threading

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.boot.segments import code64, data32, flat_registers
from dbgvmm.boot.state import BootState, CpuMode
from dbgvmm.debug.stops import StopKind

CODE, TABLES, GDT, IDT, TSS = 0x8000, 0x10000, 0x6000, 0x7000, 0x6800
CR0, CR4, EFER = 0x8000_0011, 0x220, 0x500
MEMORY = 16 << 20
BEHIND_RAM = MEMORY
DEVICES = 0xFEE0_0000
"""No device answers there (and there is no local APIC): it reads as ones."""
ENTRIES = (
    (0x0000, TABLES + 0x1003), (0x1000, TABLES + 0x2003), (0x1018, TABLES + 0x3003), (0x2000, 0x83),
    (0x2040, BEHIND_RAM | 0x83), (0x3000 + 8 * (DEVICES >> 21 & 511), DEVICES & -(2 << 20) | 0x83),
)  # fmt: skip
"""Page tables, by offset: the first 2 MiB, 2 MiB behind the RAM and 2 MiB of device memory, each at its own address."""


def loaded(code: bytes) -> Machine:
    """A machine in front of `code`, in 64-bit mode, with a GDT and without an IDT."""
    machine = Machine(MachineConfig(memory=MEMORY))
    for at, entry in ENTRIES:
        machine.ram.write(TABLES + at, struct.pack("<Q", entry))
    machine.ram.write(GDT, struct.pack("<3Q", 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF))
    machine.ram.write(CODE, code)
    machine.start(
        BootState(
            CpuMode.LONG64, CODE, {"rsp": 0x9000}, CR0, TABLES, CR4, EFER, flat_registers(code64(8), data32(16)), GDT, 0x17,
            "test", None, "test",
        )
    )  # fmt: skip
    return machine


def run(code: bytes, limit: int = 3_000_000) -> tuple[Machine, StopKind]:
    """Run `code` until something stops the machine."""
    machine = loaded(code)
    return machine, machine.run(max_count=limit).kind


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("48b800000000ff7f0000ffe0", id="jumps into nowhere"),
        pytest.param("48b80000000000000080ffe0", id="jumps to what is no address"),
        pytest.param("b8110000000f22c0ebfe", id="disables paging in 64-bit mode"),
        pytest.param("48b800f0ff1f000000000f22d8ebfe", id="loads a CR3 beyond RAM"),
        pytest.param("48b8ffffffffffff0f000f22d8ebfe", id="loads a garbage CR3"),
        pytest.param("bc00000000cc", id="traps without an IDT"),
        pytest.param("b80000e0feffe0", id="jumps into device memory"),
        pytest.param("b800000001ffe0", id="jumps behind the RAM"),
        pytest.param("b80000e0fe0f22d8ebfe", id="loads a CR3 in device memory"),
        pytest.param("48c7042500200100030000010f20d80f22d8ebfe", id="has a page table behind the RAM"),
        pytest.param("48bc00000000000080ff50", id="pushes to what is no address"),
        pytest.param("0f20c02500ffff7f0f22c0", id="leaves protected mode from 64-bit mode"),
        pytest.param("b9800000c031c031d20f30ebfe", id="clears EFER.LME while paging"),
        pytest.param("48c7c0ffffffff0f22e0", id="sets every bit of CR4"),
        pytest.param("b9efbeadde0f30", id="writes an MSR that is not there"),
        pytest.param("ff2c2500a00000", id="jumps through a null selector"),
        pytest.param("bb0000e0fe0f011b0f0b", id="has its IDT in device memory"),
        pytest.param("cdff", id="interrupts itself through no gate"),
    ],
)
def test_a_lost_guest_ends_in_a_triple_fault_with_its_chain(code: str) -> None:
    machine, kind = run(bytes.fromhex(code))
    assert kind is StopKind.TRIPLE_FAULT
    assert machine.last_stop is not None and "#DF" in machine.last_stop.text
    assert machine.cpu.describe()


def test_a_loop_with_interrupts_off_can_be_stopped() -> None:
    machine, kind = run(bytes.fromhex("faebfe"), limit=1_000_000)
    assert kind is StopKind.LIMIT
    machine.service = machine.request_stop
    assert machine.run().kind is StopKind.INTERRUPT
    assert machine.cpu.rip == CODE + 1


def test_a_return_to_null_selectors_faults_although_page_0_is_mapped_and_empty() -> None:
    machine, kind = run(bytes.fromhex("906a006a006a006a006a0048cf"))
    assert kind is StopKind.TRIPLE_FAULT
    assert (machine.cpu.rip, machine.count) == (CODE + 11, 6)


@pytest.mark.parametrize("address", [0xC0000, BEHIND_RAM, DEVICES], ids=["ROM area", "behind the RAM", "device memory"])
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("488b034889034889430890", id="8 bytes"),
        pytest.param("8a43706689437180637205", id="small ones"),
        pytest.param("0f10030f1103f30f6f4301", id="16 bytes"),
        pytest.param("4889dfb900010000f348ab", id="repeated stores"),
        pytest.param("4889deb900010000f348ad", id="repeated loads"),
        pytest.param("f048ff03480fb10bf00fba2b05480fc70b", id="read-modify-writes"),
        pytest.param("488d63405058e80000000058", id="a stack"),
        pytest.param("dbe3dd03db2bdb3b480fae03480fae0b", id="x87"),
        pytest.param("0f0103c603550f0113", id="descriptor tables"),
    ],
)
def test_accesses_where_nothing_answers_are_harmless(code: str, address: int) -> None:
    machine, kind = run(b"\xbb" + struct.pack("<I", address) + bytes.fromhex(code) + b"\xf4")
    assert kind is StopKind.HALT
    assert machine.cpu.rip == CODE + 5 + len(code) // 2 + 1


def test_what_nothing_answers_reads_as_ones() -> None:
    machine, _ = run(bytes.fromhex("bb0000e0fe 488b03 8b4b03 0fb65305 f4"))
    assert list(machine.cpu.gpr)[:3] == [(1 << 64) - 1, 0xFFFF_FFFF, 0xFF]


@pytest.mark.parametrize("code", ["ebfe", "faebfe", "ff03ebfc"], ids=["a loop", "a loop without interrupts", "a counting loop"])
def test_an_endless_loop_stops_on_request_from_another_thread(code: str) -> None:
    machine = loaded(b"\xbb" + struct.pack("<I", 0x100000) + bytes.fromhex(code))
    timer = threading.Timer(0.2, machine.request_stop)
    timer.start()
    stop = machine.run()
    timer.join()
    assert stop.kind is StopKind.INTERRUPT
    assert machine.run(steps=3).kind is StopKind.STEP


def test_an_exception_that_causes_itself_for_ever_stops_on_request() -> None:
    """Its handler, on a stack of its own, begins with the instruction that is none. No instruction ever retires."""
    machine = loaded(b"\x0f\x0b")
    machine.cpu.idtr.base, machine.cpu.idtr.limit = IDT, 0xFFF
    machine.ram.write(IDT + 6 * 16, struct.pack("<QQ", CODE | 8 << 16 | 1 << 32 | 0x8E00 << 32, 0))
    machine.cpu.tr.set(0x28, TSS, 0x67, 0x8B)
    machine.ram.write(TSS + 36, struct.pack("<Q", 0x5000))
    timer = threading.Timer(0.2, machine.request_stop)
    timer.start()
    stop = machine.run()
    timer.join()
    assert stop.kind is StopKind.INTERRUPT
    assert (machine.count, machine.cpu.rip) == (0, CODE)


def test_a_final_stop_can_be_asked_for_again() -> None:
    machine, kind = run(b"\x0f\x0b")
    assert kind is StopKind.TRIPLE_FAULT
    assert machine.run().kind is StopKind.TRIPLE_FAULT
    assert machine.cpu.rip == CODE


@pytest.mark.parametrize(
    ("code", "length"), [("6a100fa1 8ce0 f4", 8), ("66 6a10 66 0fa9 8ce8 f4", 2)], ids=["pop fs", "pop gs of 16 bits"]
)
def test_a_popped_segment_register_holds_what_was_pushed(code: str, length: int) -> None:
    machine, kind = run(bytes.fromhex(code))
    assert kind is StopKind.HALT
    assert (machine.cpu.gpr[0] & 0xFFFF, machine.cpu.gpr[4]) == (0x10, 0x9000)
    assert bytes(machine.ram.bytes[0x9000 - length : 0x9000 - length + 2]) == b"\x10\0"


@pytest.mark.parametrize(("held", "kind"), [(True, StopKind.STEP), (False, StopKind.TRIPLE_FAULT)])
def test_a_step_that_holds_interrupts_back_does_not_enter_their_handlers(held: bool, kind: StopKind) -> None:
    """There is no handler here: entering it is a triple fault."""
    machine = loaded(b"\x90\x90\x90")
    machine.cpu.rflags |= 1 << 9
    machine.dispatcher.interrupt_line = lambda: True
    machine.dispatcher.acknowledge = lambda: 0x20
    machine.dispatcher.interrupts_held = held
    assert machine.run(steps=1).kind is kind
    assert machine.cpu.rip == CODE + held
