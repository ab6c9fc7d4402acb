"""Watchpoints: behind which instruction the machine stops, and with which address."""

from __future__ import annotations

from collections.abc import Iterator

import lockstep_layout as layout
import pytest
from lockstep import Translated
from lockstep_assembler import Assembler
from lockstep_state import Program, compared

from dbgvmm.bt.watching import Watch
from dbgvmm.debug.stops import StopKind
from dbgvmm.hardware.layout import MASK64

DATA = layout.LOW + layout.DATA + 0x1000
STACK = layout.LOW + layout.STACK + 0x1000
POINT = f"bf{DATA.to_bytes(4, 'little').hex()}"  # mov edi, DATA
Hit = tuple[int, int, bool]
"""Offset of RIP behind the instruction that points RDI at the data, address, whether the address was watched for reads."""


@pytest.fixture
def world() -> Translated:
    return Translated()


def hits(world: Translated, code: str, *watches: Watch, gpr: dict[str, int] | None = None) -> list[Hit]:
    """Run the code behind `mov edi, DATA` to its end, stopping at watchpoints."""
    program = Assembler().raw(POINT).raw(code).program(gpr={"rsp": STACK, **(gpr or {})})
    return list(_run(world, program, *watches))


def _run(world: Translated, program: Program, *watches: Watch) -> Iterator[Hit]:
    world.load(program)
    machine = world.machine
    machine.watchpoints.clear()
    for watch in watches:
        machine.watchpoints.add(watch)
    machine.breakpoints.add(program.end)
    while True:
        stop = machine.run(max_count=machine.count + 10_000)
        if stop.kind is not StopKind.WATCHPOINT:
            assert stop.kind is StopKind.BREAKPOINT or world.faulted, stop
            break
        assert stop.address is not None and stop.watch is not None
        yield machine.cpu.rip - program.start - 5, stop.address, stop.watch.reads
    machine.watchpoints.clear()
    machine.breakpoints.clear()


def write(offset: int, length: int = 1) -> Watch:
    return Watch(DATA + offset, length)


def read(offset: int, length: int = 1) -> Watch:
    return Watch(DATA + offset, length, reads=True, writes=False)


@pytest.mark.parametrize(
    ("code", "rip", "watch", "at"),
    [
        pytest.param("48 89 07 90", 3, write(7), 7, id="the last byte of a store"),
        pytest.param("90 48 89 47 10 90", 5, write(0x10, 8), 0x10, id="all of a store"),
        pytest.param("66 89 47 fe 90", 4, write(-2, 64), -2, id="the first of many bytes"),
        pytest.param("48 89 47 fc 90", 4, write(0), 0, id="a store over the end of a page"),
        pytest.param("48 89 47 fc 90", 4, write(-4), -4, id="the other side of it"),
        pytest.param("f0 48 ff 47 08 90", 5, write(8, 8), 8, id="a locked read-modify-write"),
        pytest.param("0f 11 47 20 90", 4, write(0x2F), 0x2F, id="16 bytes"),
        pytest.param("b9 20 00 00 00 90 f3 aa 90", 8, write(9), 9, id="one round of rep stosb"),
        pytest.param("b8 83 00 00 00 0f ab 07 90", 8, write(0x10), 0x10, id="a bit far behind the operand"),
        pytest.param("48 c7 c0 ff ff ff ff 48 0f ab 07 90", 11, write(-8, 8), -8, id="a bit in front of it"),
        pytest.param("48 8b 07 90", 3, read(3), 3, id="a load"),
        pytest.param("48 03 47 08 90", 4, read(8), 8, id="an operand"),
        pytest.param("48 89 fe b9 10 00 00 00 f3 ac 90", 10, read(5), 5, id="one round of rep lodsb"),
        pytest.param("ff 07 90", 2, read(0, 4), 0, id="the read of a read-modify-write"),
    ],
)
def test_the_machine_stops_behind_the_access(world: Translated, code: str, rip: int, watch: Watch, at: int) -> None:
    found = hits(world, code, watch)
    if "f3" in code and rip in (8, 10):
        rip -= 2  # between two rounds
    assert found == [(rip, DATA + at, watch.reads)]


@pytest.mark.parametrize(
    ("code", "watch"),
    [
        ("48 8b 07 90", write(0, 8)), ("48 89 07 90", write(8)), ("48 89 07 90", write(-1)), ("48 89 07 90", read(0, 8)),
        ("48 8d 07 90", read(0)), ("0f 18 0f 90", read(0)), ("31 c9 f3 aa 90", write(0)),
        ("b9 10 00 00 00 f3 aa 90", write(16)),
    ],
    ids=["a load", "beside it", "before it", "a store", "lea", "prefetch", "no rounds", "behind a rep stosb"],
)  # fmt: skip
def test_what_is_not_asked_for_does_not_stop(world: Translated, code: str, watch: Watch) -> None:
    assert hits(world, code, watch) == []


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize(("code", "rip"), [("57 5e 90", 1), ("e8 00 00 00 00 5e 90", 5)], ids=["push", "call"])
def test_the_stack_is_watched_too(world: Translated, code: str, rip: int, reads: bool) -> None:
    found = hits(world, code, Watch(STACK - 8, 8, reads=reads))
    assert found == [(rip, STACK - 8, reads), (rip + 1, STACK - 8, reads)][: 1 + reads]


@pytest.mark.parametrize(
    "rotate",
    ["d0 1f", "66 d1 17", "d1 1f", "48 d1 17", "c0 1f 05", "48 d3 5c 24 f0", "64 d1 1c 25 10 00 00 00", "67 d0 17"],
)
def test_a_rotate_through_carry_takes_the_carry_that_the_guest_had(world: Translated, rotate: str) -> None:
    """Its store faults, and the engine has changed the carry by then; it is run again."""
    code = f"f9 {rotate} 90"
    hits(world, code, gpr={"rcx": 3})
    expected = compared(world.machine.ram.bytes)
    for watch in (write(0x800), Watch(STACK - 0x800, 8)):
        hits(world, code, watch, gpr={"rcx": 3})
        assert compared(world.machine.ram.bytes) == expected


def test_what_an_exception_pushes_is_watched(world: Translated) -> None:
    """The stop is in front of the handler."""
    stack = layout.SYSTEM + layout.IST_STACK
    found = hits(world, "0f 0b", Watch(stack - 0x800, 0x1800))
    assert len(found) == 1 and stack - 0x800 <= found[0][1] < stack + 0x1000


def test_a_store_that_faults_does_not_stop(world: Translated) -> None:
    hole = layout.LOW + layout.HOLE
    assert hits(world, "48 89 06 90", Watch(hole, 8), gpr={"rsi": hole}) == []


def test_many_watches_on_many_pages_all_stop(world: Translated) -> None:
    code = "48 89 47 00" "48 89 87 00 10 00 00" "48 89 47 08" "90"
    watches = [write(n) for n in (0, 8, 0x1000, 0x20, 0x1100)]
    assert [address - DATA for _, address, _ in hits(world, code, *watches)] == [0, 0x1000, 8]


def test_physical_watches_see_every_mapping(world: Translated) -> None:
    other = layout.SYSTEM + layout.DATA_FRAME + 0x1000
    frame = Watch(layout.DATA_FRAME + 0x1000 + 4, 4, physical=True)
    code = "48 89 07" + "48 be" + other.to_bytes(8, "little").hex() + "48 89 06" + "90"
    assert [rip for rip, _, _ in hits(world, code, frame)] == [3, 16]


def test_a_watch_for_another_address_space_does_not_stop(world: Translated) -> None:
    assert hits(world, "48 89 07 90", Watch(DATA, 8, cr3=0x123000)) == []
    assert len(hits(world, "48 89 07 90", Watch(DATA, 8, cr3=layout.ROOT))) == 1


def test_removing_a_watch_leaves_no_trace(world: Translated) -> None:
    hits(world, "48 89 07 48 8b 07 90", write(0), read(0))
    assert not [kinds for kinds in world.machine.mmu.traces.kinds.values() if kinds & 12]
    assert hits(world, "48 89 07 48 8b 07 90") == []


def test_ranges_that_are_none_are_refused() -> None:
    for start, length in ((0, 0), (MASK64, 2), (-1, 1)):
        with pytest.raises(ValueError, match="no range"):
            Watch(start, length)
