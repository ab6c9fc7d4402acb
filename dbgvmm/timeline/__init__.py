"""Virtual time: the instruction clock and the events that hang on it.

Nothing here reads the host's clock, so the same guest instructions always see the same time.
"""
from __future__ import annotations
