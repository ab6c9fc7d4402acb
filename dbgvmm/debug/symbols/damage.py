"""Files that are damaged: what the readers of their formats raise, and how it is said."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct import ConstructError

from dbgvmm.debug.symbols.table import SymbolError

DAMAGE: Final = (
    ELFError, DWARFError, ConstructError, struct.error, LookupError, ValueError, TypeError, AttributeError,
    ArithmeticError, AssertionError, RecursionError, MemoryError, EOFError, StopIteration,
)  # fmt: skip
"""What pyelftools raises for files that contradict themselves: it checks little, and trips where it trips."""


@contextmanager
def reading(what: str, advice: str) -> Iterator[None]:
    """Turn what a reader trips over into a SymbolError: "`what` is damaged (...): `advice`"."""
    try:
        yield
    except SymbolError:
        raise
    except OSError as error:
        raise SymbolError(f"{what}: {error.strerror or error}") from error
    except DAMAGE as error:
        detail = " ".join(str(error).split())[:100] or type(error).__name__
        raise SymbolError(f"{what} is damaged ({detail}): {advice}") from error
