"""`MachineConfig`: what can be chosen about a machine."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dbgvmm.bt.cache import TC_PAGES


@dataclass(frozen=True)
class MachineConfig:
    """What can be chosen about a machine.

    memory: bytes of RAM. user: "bt" translates CPL-3 code too, "direct" runs it untranslated. validate: "eager" or
    "lazy" (see mmu/). ns_per_insn: virtual nanoseconds an instruction takes. rtc_epoch: UTC seconds that the RTC shows
    at power-on. cpu: feature overrides such as "-smap". tc_pages: TC pages for each of global and local code.
    """

    memory: int = 256 << 20
    user: str = "bt"
    validate: str = "eager"
    ns_per_insn: Fraction = Fraction(10)
    rtc_epoch: int = 1_700_000_000
    cpu: tuple[str, ...] = ()
    tc_pages: int = TC_PAGES // 2
