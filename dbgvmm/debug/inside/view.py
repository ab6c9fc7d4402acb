"""One translation unit with everything that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iced_x86 import Instruction, OpKind

from dbgvmm.bt import classify as cls
from dbgvmm.bt import units as bt
from dbgvmm.bt.classify import Classifier
from dbgvmm.bt.emission import STORE_RCX
from dbgvmm.bt.emit_operands import ROTATES_THROUGH_CARRY
from dbgvmm.bt.units import Edge, TranslationUnit
from dbgvmm.debug.inside.code import InstructionLine, TranslatedLine, counting_range, unit_code
from dbgvmm.debug.inside.liveness import decode_unit, live_flags
from dbgvmm.debug.inside.sites import NoUnit, describe_site, place
from dbgvmm.debug.inside.units import Costs, UnitRow, lives, row
from dbgvmm.hardware.layout import MASK64, TC_OFFSET, TC_VA

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

IDENT, REWRITTEN, IN_TC, CALLOUT, EDGE, INDIRECT, GUARDED = (
    "IDENT", "rewritten", "in-TC", "callout", "edge", "indirect", "guarded"
)  # fmt: skip
_EDGES = frozenset((cls.JCC, cls.JMP, cls.CALL, cls.LOOP))
_INDIRECT = frozenset((cls.RET, cls.INDIRECT_JMP, cls.INDIRECT_CALL))
_IN_TC = frozenset((cls.POPF, cls.STI, cls.PUSHF, cls.RDTSC, cls.IRETQ))


@dataclass(frozen=True)
class InstructionView:
    """One guest instruction. mark: IDENT (copied), rewritten (copied with another operand, or with company), in-TC (emulated
    without an exit), callout (the monitor carries it out), edge (a direct branch), indirect (through the lookup table), guarded
    (it looks whether it accesses what is watched).

    live: the arithmetic flags that are live in front of it. counts: the unit counts itself here; flags_dead: with a plain SUB.
    spills: registers that the translation puts aside meanwhile. accused: trace faults of it so far. beside: accesses next to
    what is watched. guilty: it is translated as a callout since it kept hitting traces.
    """

    line: InstructionLine
    mark: str
    live: str
    counts: bool
    flags_dead: bool
    spills: tuple[str, ...]
    accused: int
    guilty: bool
    beside: int
    translated: tuple[TranslatedLine, ...]


@dataclass(frozen=True)
class UnitView:
    """A unit. rounds: so often it holds its code, if that is a loop. exits: its exit sites in words. chained_to, entered_from:
    places of the units that it jumps to and that jump to it. history: all units of this address, this one among them."""

    unit: UnitRow
    place: str
    is_global: bool
    precise: bool
    rounds: int
    instructions: tuple[InstructionView, ...]
    stubs: tuple[TranslatedLine, ...]
    exits: tuple[str, ...]
    chained_to: tuple[str, ...]
    entered_from: tuple[str, ...]
    history: tuple[UnitRow, ...]


def view(machine: Machine, unit: TranslationUnit) -> UnitView:
    """Everything about a unit. Raises NoUnit if its translation is not in the cache any more."""
    if unit.tc_page is None or machine.cache.tc_pages.get(unit.tc_page.index) is not unit.tc_page:
        raise NoUnit(f"the unit of {place(machine.symbols, unit.guest_rip)} is gone: {unit.why_dead or 'the TC was flushed'}")
    cache, page, symbols = machine.cache, unit.page, machine.symbols
    code = unit_code(machine, unit)
    decoded = decode_unit(unit)
    live = live_flags(decoded)
    counting = counting_range(unit)
    start = unit.tc_start - TC_VA + TC_OFFSET
    dead = bool(counting) and not bytes(
        machine.engine.frames.block.bytes[start + counting.start - unit.tc_start :][:3]
    ).startswith(STORE_RCX)
    sites = [cache.sites[behind] for behind in unit.sites if behind in cache.sites]
    carried_out = {site.guest_rip for site in sites if site.kind == bt.CALLOUT}
    stores = {site.guest_rip for site in sites if site.kind == bt.STORE}
    shown = []
    for (line, translated), instruction, flags in zip(code.pairs, decoded, live, strict=True):
        offset = line.address & 0xFFF
        shown.append(InstructionView(
            line, _mark(instruction, line, translated, carried_out, stores, offset in page.guards), flags,
            any(item.counts for item in translated), dead and any(item.counts for item in translated),
            tuple(sorted({register for item in translated for register in item.spilled})), page.accused.get(offset, 0),
            offset in page.guilty, page.beside.get(offset, 0), translated,
        ))  # fmt: skip
    return UnitView(
        row(unit, Costs(machine)), place(symbols, unit.guest_rip), page.is_global, not counting,
        max(unit.length // max(len(decoded), 1), 1), tuple(shown), code.stubs,
        tuple(describe_site(symbols, site) for site in sites),
        tuple(place(symbols, site.guest_rip) for site in sites if isinstance(site, Edge) and site.target is not None),
        tuple(place(symbols, edge.unit.guest_rip) for edge in unit.incoming), tuple(lives(machine, unit.guest_rip)),
    )  # fmt: skip


def _mark(
    instruction: Instruction, line: InstructionLine, translated: tuple[TranslatedLine, ...], carried_out: set[int],
    stores: set[int], guarded: bool,
) -> str:  # fmt: skip
    if line.address in stores:
        return CALLOUT
    kind = Classifier().learn(instruction)
    if kind in _EDGES:
        return EDGE
    if kind in _INDIRECT:
        return INDIRECT
    exits = [item for item in translated if item.text == "int 0x20"]
    own = [item for item in translated if not item.counts]
    if exits and len(own) == len(exits) or kind in (cls.CALLOUT, cls.INVALID) and line.address & MASK64 in carried_out:
        return CALLOUT
    if kind in _IN_TC:
        return IN_TC
    if guarded:
        return GUARDED
    # What else is there is left over from the instruction before (its registers are put back), or a probe.
    touched = instruction.mnemonic in ROTATES_THROUGH_CARRY and instruction.op0_kind == OpKind.MEMORY
    alone = kind == cls.IDENT and not touched
    return IDENT if alone and any(item.code == line.code for item in own) else REWRITTEN
