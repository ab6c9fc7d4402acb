"""The PC's devices, one file each, and the buses they hang on. `board.Board` puts them together."""
from __future__ import annotations
