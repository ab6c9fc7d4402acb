"""Thunks: where lookups arrive for a unit that was made for direct branches only.

An indirect branch spills RAX and RCX to get at its slot; the thunk reloads them and jumps to the unit.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from dbgvmm.bt.emission import LOAD_RAX, LOAD_RCX
from dbgvmm.bt.tcdata import SPILL_RAX, SPILL_RCX
from dbgvmm.bt.units import FIX_RAX, FIX_RCX, TranslationUnit, mark_state
from dbgvmm.hardware.layout import DATA_VA, USER_DATA_VA

_THUNK: Final = Struct("<3si3siBi")
_MARK_OFFSETS: Final = [0, 7, 14]
_MARK_STATES: Final = [mark_state(0, 0, FIX_RAX | FIX_RCX), mark_state(0, 0, FIX_RAX), mark_state(0, 0)]
"""All thunks share them."""


def make_thunk(thunk: TranslationUnit, at: int, entry: int) -> bytes:
    """The code of a thunk at TC address `at` that leads to `entry`; its unit is filled in, with a length of 0."""
    data = (USER_DATA_VA if thunk.page.user else DATA_VA) - at
    thunk.tc_start = thunk.indirect_entry = at
    thunk.entry = at + 14
    thunk.tc_end = at + _THUNK.size
    thunk.mark_offsets, thunk.mark_states = _MARK_OFFSETS, _MARK_STATES
    return _THUNK.pack(LOAD_RCX, data + SPILL_RCX - 7, LOAD_RAX, data + SPILL_RAX - 14, 0xE9, entry - at - _THUNK.size)
