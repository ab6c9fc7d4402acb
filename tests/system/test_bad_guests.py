"""Guests that do what no kernel should: each ends in a clear stop, and the machine can still be looked at."""

from __future__ import annotations

import struct

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.boot.segments import code64, data32, flat_registers
from dbgvmm.boot.state import BootState, CpuMode
from dbgvmm.debug.stops import StopKind

CODE, TABLES = 0x8000, 0x10000
CR0, CR4, EFER = 0x8000_0011, 0x20, 0x500


def run(code: bytes, limit: int = 3_000_000) -> tuple[Machine, StopKind]:
    """Run `code` in 64-bit mode with the first 2 MiB mapped 1:1 and no IDT."""
    machine = Machine(MachineConfig(memory=16 << 20))
    for at, entry in ((0, TABLES + 0x1003), (0x1000, TABLES + 0x2003), (0x2000, 0x83)):
        machine.ram.write(TABLES + at, struct.pack("<Q", entry))
    machine.ram.write(CODE, code)
    machine.start(
        BootState(
            CpuMode.LONG64, CODE, {"rsp": 0x9000}, CR0, TABLES, CR4, EFER, flat_registers(code64(8), data32(16)), 0, 0,
            "test", None, "test",
        )
    )  # fmt: skip
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
