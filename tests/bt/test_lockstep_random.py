"""Random straight-line code does the same translated as on the bare engine."""

from __future__ import annotations

import lockstep_layout as layout
from hypothesis import given
from hypothesis import strategies as st
from lockstep import DETERMINISTIC, check
from lockstep_random import Genes, assemble, genes
from lockstep_state import Program

ARITHMETIC = 0x8D5
DIRECTION = 0x400
FLAGS = st.integers(0, (1 << 12) - 1).map(lambda value: value & (ARITHMETIC | DIRECTION) | 2)


@DETERMINISTIC
@given(
    sequence=st.lists(genes(), min_size=1, max_size=40),
    base=st.sampled_from(layout.BASES),
    cpl=st.sampled_from((0, 3)),
    rflags=FLAGS,
    stops=st.lists(st.integers(0, 40), max_size=2),
)
def test_any_sequence(sequence: list[Genes], base: int, cpl: int, rflags: int, stops: list[int]) -> None:
    code = b"\x90" + assemble(sequence, base, 0x101)
    check(Program(code, base=base, cpl=cpl, rflags=rflags), stops)
