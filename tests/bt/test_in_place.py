"""`--user=direct`: blocks that run in place are counted for what they are, whatever happens to their bytes and pages.

That CPL-3 programs do in place what they do on the bare engine is checked by every lockstep test.
"""

from __future__ import annotations

import lockstep_layout as layout
import pytest
from lockstep import Translated, in_place
from lockstep_state import Program

from dbgvmm.cpu.bits import PageFaultError, Vector

NOTHING_YET = "90 eb 00"
"""The first instruction of a run is never in place; the second begins a block."""
AWAY = "eb 00 0f 0b"
LAST_PAGE = layout.CODE_PAGES * layout.PAGE
ONE_OF_FIVE = "b8 01 00 00 00"
FIVE_OF_ONE = "90 90 90 90 f8"
"""As many bytes: `mov eax, 1`, and four NOPs with CLC."""


@pytest.fixture
def direct() -> Translated:
    return in_place()


def program(code: str, offset: int = 0x100, **options: object) -> Program:
    return Program(bytes.fromhex(code), cpl=3, offset=offset, **options)  # type: ignore[arg-type]  # vary by test


def run(machine: Translated) -> int:
    """Run until the program faults. How many of its instructions have retired."""
    machine.run_freely(layout.SYSTEM, 1)
    return machine.retired


def again(machine: Translated, code: Program) -> int:
    """Run the program once more, with memory and all that is known of it as they are."""
    machine.enter(code)
    return run(machine)


def test_code_does_run_in_place(direct: Translated) -> None:
    direct.load(program(NOTHING_YET + AWAY))
    in_place = direct.machine.dispatcher.direct
    assert in_place is not None
    before = in_place.blocks
    run(direct)
    assert in_place.blocks > before


@pytest.mark.parametrize("pages", [1, 2, 4])
def test_hidden_faults_count_nothing(direct: Translated, pages: int) -> None:
    """One store to each of several fresh pages, in one block."""
    stores = "".join(f"88 83 {(page * layout.PAGE).to_bytes(4, 'little').hex()}" for page in range(pages))
    direct.load(program(NOTHING_YET + stores + AWAY, gpr={"rbx": layout.LOW + layout.DATA}))
    assert run(direct) == 2 + pages + 1


@pytest.mark.parametrize("count", [0, 1, 2, 100, 3 * layout.PAGE])
def test_a_repeated_string_instruction_is_one(direct: Translated, count: int) -> None:
    direct.load(program(NOTHING_YET + "90 f3 aa 90" + AWAY, gpr={"rcx": count, "rdi": layout.LOW + layout.DATA}))
    assert run(direct) == 2 + 3 + 1


def test_a_loop_of_repeated_string_instructions_counts_each(direct: Translated) -> None:
    """The jump leads straight back to it, so that it follows itself but for the jump."""
    loop = "f3 ae b9 03 00 00 00 ff ca 75 f5"  # repe scasb; mov ecx, 3; dec edx; jne
    direct.load(program(NOTHING_YET + loop + AWAY, gpr={"rcx": 3, "rdx": 5, "rax": 0, "rdi": layout.LOW + layout.DATA}))
    assert run(direct) == 2 + 5 * 4 + 1


def test_a_page_that_is_compiled_ahead_faults_when_its_turn_comes(direct: Translated) -> None:
    """Just in front of a page that is not there, an instruction faults itself."""
    hole = layout.LOW + layout.HOLE
    direct.load(program(NOTHING_YET + "90 88 03", LAST_PAGE - 6, gpr={"rbx": hole}))
    assert run(direct) == 3
    fault = direct.fault()
    assert fault is not None
    assert (fault.vector, fault.cr2) == (Vector.PF, hole)


def test_a_block_runs_up_to_the_page_that_is_not_there(direct: Translated) -> None:
    direct.load(program(NOTHING_YET + "90 f8 90", LAST_PAGE - 6))
    assert run(direct) == 5
    fault = direct.fault()
    assert fault is not None and fault.error is not None
    assert (fault.vector, fault.cr2) == (Vector.PF, layout.LOW + LAST_PAGE) and fault.error & PageFaultError.U
    assert direct.registers().rip == layout.LOW + LAST_PAGE


def test_an_instruction_across_the_end_faults_at_its_start(direct: Translated) -> None:
    direct.load(program(NOTHING_YET + "90 b8 01", LAST_PAGE - 6))
    assert run(direct) == 3
    fault = direct.fault()
    assert fault is not None and fault.cr2 == layout.LOW + LAST_PAGE
    assert direct.registers().rip == layout.LOW + LAST_PAGE - 2


def test_bytes_that_the_monitor_changes_run_and_count_as_they_are(direct: Translated) -> None:
    """A debugger's poke, as any store that the monitor carries out: the engine does not see it itself."""
    code = program(NOTHING_YET + ONE_OF_FIVE + AWAY)
    direct.load(code)
    assert run(direct) == 2 + 1 + 1
    direct.machine.memory.poke(code.start + 3, bytes.fromhex(FIVE_OF_ONE))
    assert again(direct, code) == 2 + 5 + 1


def in_second_page(code: str) -> Program:
    """The program jumps there, so that nothing on the page is translated."""
    return program("e9" + (layout.PAGE - 5).to_bytes(4, "little").hex() + "90" * (layout.PAGE - 5) + code + AWAY)


def test_another_frame_at_the_address_counts_as_what_it_holds(direct: Translated) -> None:
    code = in_second_page(ONE_OF_FIVE)
    direct.load(code)
    assert run(direct) == 1 + 1 + 1
    machine = direct.machine
    report = machine.memory.translate(code.start + layout.PAGE)
    assert report.gpa is not None
    there, other = report.gpa & -layout.PAGE, layout.CODE_FRAME + 2 * layout.PAGE
    machine.ram.bytes[other : other + layout.PAGE] = machine.ram.bytes[there : there + layout.PAGE]
    at = other | report.gpa & layout.PAGE - 1
    machine.ram.bytes[at : at + 5] = bytes.fromhex(FIVE_OF_ONE)
    leaf = report.levels[-1]
    machine.mmu.guest_write_int(leaf.entry_gpa, leaf.entry ^ there ^ other, 8)
    assert again(direct, code) == 1 + 5 + 1


def test_user_code_that_changes_what_it_is_about_to_run_is_counted_as_changed(direct: Translated) -> None:
    stores = "c7 05 07 00 00 00 90 90 90 90 c6 05 04 00 00 00 f8"
    direct.load(in_second_page(stores + ONE_OF_FIVE))
    assert run(direct) == 1 + 2 + 5 + 1
