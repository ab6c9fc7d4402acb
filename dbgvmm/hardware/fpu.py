"""The x87 and SSE registers of the saved context, by name, as raw bytes in memory order.

They stay in the engine: the guest uses the hardware's own. The names are gdb's (`st0`, `fctrl`, `xmm0`, `mxcsr`); `st0`
is the top of the stack, as the instructions number them.

Source: Intel SDM vol. 1, 8.1 (x87 environment), 10.2 (XMM, MXCSR); vol. 3A, table 10-1 (state after reset).
"""

from __future__ import annotations

from typing import Final

from unicorn import x86_const as uc_x86

from dbgvmm.hardware.engine import Engine

_ENVIRONMENT: Final = {
    "fctrl": (uc_x86.UC_X86_REG_FPCW, 2),
    "fstat": (uc_x86.UC_X86_REG_FPSW, 2),
    "ftag": (uc_x86.UC_X86_REG_FPTAG, 2),
    "fiseg": (uc_x86.UC_X86_REG_FCS, 2),
    "fioff": (uc_x86.UC_X86_REG_FIP, 8),
    "foseg": (uc_x86.UC_X86_REG_FDS, 2),
    "fooff": (uc_x86.UC_X86_REG_FDP, 8),
    "fop": (uc_x86.UC_X86_REG_FOP, 2),
    "mxcsr": (uc_x86.UC_X86_REG_MXCSR, 4),
}
FPU_REGISTERS: Final = {
    **{f"st{n}": (uc_x86.UC_X86_REG_ST0 + n, 10) for n in range(8)},
    **{f"xmm{n}": (uc_x86.UC_X86_REG_XMM0 + n, 16) for n in range(16)},
    **_ENVIRONMENT,
}
"""Unicorn's number and the size in bytes of each register."""
_RESET_FCTRL: Final = 0x40
_RESET_MXCSR: Final = 0x1F80


def read_fpu(engine: Engine, name: str) -> bytes:
    """The register's bytes. Raises KeyError for a name that is not in FPU_REGISTERS."""
    number, size = FPU_REGISTERS[name]
    return engine.read_register(number, size)


def write_fpu(engine: Engine, name: str, data: bytes) -> None:
    """Set a register; missing high bytes are zeros, surplus ones are dropped. Takes effect when the guest runs on."""
    number, size = FPU_REGISTERS[name]
    engine.write_register(number, data[:size].ljust(size, b"\0"))


def reset_fpu(engine: Engine) -> None:
    """All registers as after RESET: zeros, but x87 control word 0040H, all tags "zero", MXCSR 1F80H."""
    for name in FPU_REGISTERS:
        if name != "ftag":
            write_fpu(engine, name, b"")
    write_fpu(engine, "ftag", (0x5555).to_bytes(2, "little"))
    write_fpu(engine, "fctrl", _RESET_FCTRL.to_bytes(2, "little"))
    write_fpu(engine, "mxcsr", _RESET_MXCSR.to_bytes(4, "little"))
