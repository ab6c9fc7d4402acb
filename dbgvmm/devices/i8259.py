"""One 8259A programmable interrupt controller chip (Intel 8259A data sheet, 231468).

The chip knows nothing of its partner: `pic.py` wires two of them into a PC's pair. Edge or level sense is chosen
per input by the ELCR that PC chipsets put beside it (Intel 82371SB data sheet), so ICW1's LTIM bit is ignored.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

SPURIOUS_LEVEL: Final = 7
NO_REQUEST: Final = -1


class Icw1:
    """Initialization command word 1 and the bit that tells OCW2 from OCW3."""

    NEEDS_ICW4: Final = 0x01
    SINGLE: Final = 0x02
    SELECT: Final = 0x10


class Icw4:
    """Initialization command word 4."""

    AUTO_EOI: Final = 0x02
    SPECIAL_FULLY_NESTED: Final = 0x10


class Ocw2:
    """Operation command word 2: bits 7:5 are a command, bits 2:0 a level."""

    CLEAR_ROTATE_IN_AUTO_EOI: Final = 0
    EOI: Final = 1
    NO_OPERATION: Final = 2
    SPECIFIC_EOI: Final = 3
    SET_ROTATE_IN_AUTO_EOI: Final = 4
    ROTATE_ON_EOI: Final = 5
    SET_PRIORITY: Final = 6
    ROTATE_ON_SPECIFIC_EOI: Final = 7


class Ocw3:
    """Operation command word 3."""

    READ_ISR: Final = 0x01
    READ_REGISTER: Final = 0x02
    POLL: Final = 0x04
    SELECT: Final = 0x08
    SPECIAL_MASK: Final = 0x20
    ENABLE_SPECIAL_MASK: Final = 0x40


class InitStep:
    """Where the initialization sequence stands: the ICW that is expected next."""

    NEVER: Final = 0
    READY: Final = 1
    ICW2: Final = 2
    ICW3: Final = 3
    ICW4: Final = 4


@dataclass(slots=True)
class PicChipState:
    """Every register of one chip. Masks have bit n for input IRn."""

    lines: int = 0
    edge_latch: int = 0
    elcr: int = 0
    imr: int = 0
    isr: int = 0
    vector_base: int = 0
    init_step: int = InitStep.NEVER
    needs_icw4: bool = False
    single: bool = False
    auto_eoi: bool = False
    rotate_in_auto_eoi: bool = False
    special_mask: bool = False
    special_fully_nested: bool = False
    lowest_priority: int = 7
    read_isr: bool = False
    poll: bool = False


class Pic8259:
    """One 8259A. `level_capable` masks the inputs that ELCR may switch to level; `slaves` those with a chip behind."""

    def __init__(self, *, level_capable: int, slaves: int) -> None:
        self._level_capable = level_capable
        self._slaves = slaves
        self._s = PicChipState()

    # ---- inputs and the interrupt output

    def set_line(self, level: int, high: bool) -> None:
        """Drive input IR`level`. A low line withdraws its request, latched or not (data sheet, "IR triggering")."""
        s, bit = self._s, 1 << level
        if high:
            if not s.lines & bit:
                s.edge_latch |= bit
            s.lines |= bit
        else:
            s.lines &= ~bit
            s.edge_latch &= ~bit

    def line_is_high(self, level: int) -> bool:
        """How input IR`level` is driven now."""
        return bool(self._s.lines >> level & 1)

    @property
    def irr(self) -> int:
        """The interrupt request register: latched edges and level-triggered lines that are high."""
        s = self._s
        return (s.edge_latch & ~s.elcr) | (s.lines & s.elcr)

    @property
    def vector_base(self) -> int:
        """The vector of IR0, from ICW2."""
        return self._s.vector_base

    @property
    def polled(self) -> bool:
        """OCW3 asked that the next read be a poll."""
        return self._s.poll

    @property
    def single(self) -> bool:
        """ICW1 said that there is no slave."""
        return self._s.single

    def pending(self) -> int:
        """The level that the chip asks to have serviced, or NO_REQUEST. INT is high when there is one."""
        s = self._s
        requests = self.irr & ~s.imr
        if not requests or s.init_step != InitStep.READY:
            return NO_REQUEST
        rank = self._best_rank(requests)
        in_service = s.isr & ~s.imr if s.special_mask else s.isr
        blocking = self._best_rank(in_service)
        level = self._level_of_rank(rank)
        nested_slave = s.special_fully_nested and self._slaves >> level & 1 and rank == blocking
        return level if rank < blocking or nested_slave else NO_REQUEST

    def acknowledge(self) -> int:
        """The INTA cycle: the level in service now. A request that vanished gives IR7 and leaves ISR alone."""
        level = self.pending()
        if level == NO_REQUEST:
            return SPURIOUS_LEVEL
        s, bit = self._s, 1 << level
        s.edge_latch &= ~bit
        if not s.auto_eoi:
            s.isr |= bit
        elif s.rotate_in_auto_eoi:
            s.lowest_priority = level
        return level

    # ---- registers

    def read(self, a0: int) -> int:
        """Read with address line `a0`: the poll word if one was asked for, else IMR (1), IRR or ISR (0)."""
        s = self._s
        if s.poll:
            s.poll = False
            level = self.pending()
            return 0 if level == NO_REQUEST else 0x80 | self.acknowledge()
        if a0:
            return s.imr
        return s.isr if s.read_isr else self.irr

    def write(self, a0: int, value: int) -> None:
        """Write with address line `a0`: an ICW or OCW, told apart as the data sheet says."""
        if a0:
            self._write_high(value)
        elif value & Icw1.SELECT:
            self._icw1(value)
        elif value & Ocw3.SELECT:
            self._ocw3(value)
        else:
            self._ocw2(value >> 5, value & 7)

    @property
    def elcr(self) -> int:
        """Edge/level control register: a set bit makes that input level-triggered."""
        return self._s.elcr

    @elcr.setter
    def elcr(self, value: int) -> None:
        self._s.elcr = value & self._level_capable

    def reset(self) -> None:
        """Power on: nothing is requested until the initialization sequence is done. The input lines stay."""
        self._s = PicChipState(lines=self._s.lines)

    def state(self) -> PicChipState:
        """A copy of every register."""
        return replace(self._s)

    def load_state(self, state: PicChipState) -> None:
        """Take over every register from `state`."""
        self._s = replace(state)

    # ---- command words

    def _icw1(self, value: int) -> None:
        old = self._s
        self._s = PicChipState(
            lines=old.lines,
            elcr=old.elcr,
            vector_base=old.vector_base,
            init_step=InitStep.ICW2,
            needs_icw4=bool(value & Icw1.NEEDS_ICW4),
            single=bool(value & Icw1.SINGLE),
        )

    def _write_high(self, value: int) -> None:
        s = self._s
        after_icw3 = InitStep.ICW4 if s.needs_icw4 else InitStep.READY
        match s.init_step:
            case InitStep.ICW2:
                s.vector_base = value & 0xF8
                s.init_step = after_icw3 if s.single else InitStep.ICW3
            case InitStep.ICW3:
                # Which input has the slave is fixed by the board's wiring, so the value says nothing new.
                s.init_step = after_icw3
            case InitStep.ICW4:
                s.auto_eoi = bool(value & Icw4.AUTO_EOI)
                s.special_fully_nested = bool(value & Icw4.SPECIAL_FULLY_NESTED)
                s.init_step = InitStep.READY
            case _:
                s.imr = value

    def _ocw2(self, command: int, level: int) -> None:
        s = self._s
        match command:
            case Ocw2.SET_ROTATE_IN_AUTO_EOI:
                s.rotate_in_auto_eoi = True
            case Ocw2.CLEAR_ROTATE_IN_AUTO_EOI:
                s.rotate_in_auto_eoi = False
            case Ocw2.EOI | Ocw2.ROTATE_ON_EOI:
                # In special mask mode a masked in-service bit is not seen by a non-specific EOI.
                rank = self._best_rank(s.isr & ~s.imr if s.special_mask else s.isr)
                if rank < 8:
                    ended = self._level_of_rank(rank)
                    s.isr &= ~(1 << ended)
                    if command == Ocw2.ROTATE_ON_EOI:
                        s.lowest_priority = ended
            case Ocw2.SPECIFIC_EOI | Ocw2.ROTATE_ON_SPECIFIC_EOI:
                s.isr &= ~(1 << level)
                if command == Ocw2.ROTATE_ON_SPECIFIC_EOI:
                    s.lowest_priority = level
            case Ocw2.SET_PRIORITY:
                s.lowest_priority = level

    def _ocw3(self, value: int) -> None:
        s = self._s
        if value & Ocw3.ENABLE_SPECIAL_MASK:
            s.special_mask = bool(value & Ocw3.SPECIAL_MASK)
        if value & Ocw3.POLL:
            s.poll = True
        elif value & Ocw3.READ_REGISTER:
            s.read_isr = bool(value & Ocw3.READ_ISR)

    # ---- priorities: rank 0 is the highest, 8 means "none"

    def _level_of_rank(self, rank: int) -> int:
        return (rank + self._s.lowest_priority + 1) & 7

    def _best_rank(self, levels: int) -> int:
        if not levels:
            return 8
        turn = self._s.lowest_priority + 1 & 7
        rotated = (levels >> turn | levels << (8 - turn)) & 0xFF
        return (rotated & -rotated).bit_length() - 1
