"""Colours of mechanisms: each has its own everywhere, and translated code, which is none, has one that stands apart."""

from __future__ import annotations

from typing import Final

from dbgvmm.bt.mechanisms import Mechanism

GUEST: Final = "#8fce9b"
"""Translated code."""
OTHERS: Final = "#b5b2ad"
"""All that is too little to be told apart."""
_COLOURS: Final = {
    Mechanism.CALLOUT: "#4e79a7",
    Mechanism.PORT: "#76b7b2",
    Mechanism.CR3_SWITCH: "#2f6f4f",
    Mechanism.HALT: "#9c755f",
    Mechanism.CHAIN: "#f28e2b",
    Mechanism.LOOKUP_MISS: "#ffbe5d",
    Mechanism.WINDOW_FAULT: "#b07aa1",
    Mechanism.SLICE: "#7f8fa9",
    Mechanism.PRECISE_END: "#a3acbd",
    Mechanism.INTERRUPT_WINDOW: "#5fb0d3",
    Mechanism.HIDDEN_FAULT: "#e15759",
    Mechanism.AD_UPDATE: "#ff9d9a",
    Mechanism.TRUE_FAULT: "#a83246",
    Mechanism.TRACE: "#b6992d",
    Mechanism.STORE: "#e3cf57",
    Mechanism.EXCEPTION: "#d37295",
    Mechanism.STEP: "#86a84a",
    Mechanism.DIRECT: "#3c8c8c",
    Mechanism.SAMPLE: "#cfc6da",
    Mechanism.TRANSLATION: "#8866b8",
    Mechanism.INTERRUPT: "#1f8fb4",
    Mechanism.DELIVERY: "#f0a6c0",
    Mechanism.DEVICE_EVENT: "#8a7f70",
    Mechanism.MMIO: "#a0cbe8",
    Mechanism.STEP_CALLOUT: "#5d7a2b",
}


def colour_of(mechanism: Mechanism) -> str:
    """#rrggbb. What only people cause has the colour of the rest."""
    return _COLOURS.get(mechanism, OTHERS)


__all__ = ["GUEST", "OTHERS", "colour_of"]
