"""Boot loaders: each turns a kernel file into "memory + first CPU state"."""

from __future__ import annotations

from dbgvmm.boot.detect import load_kernel
from dbgvmm.boot.request import BootRequest
from dbgvmm.boot.segments import BootSegment
from dbgvmm.boot.state import BootError, BootState, CpuMode, Memory

__all__ = ["BootError", "BootRequest", "BootSegment", "BootState", "CpuMode", "Memory", "load_kernel"]
