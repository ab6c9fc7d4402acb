"""The machine as a whole: `info devices`, `info device`, `info interrupts`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from dbgvmm.commands.columns import columns
from dbgvmm.commands.devices import (
    KeyboardReport,
    PicReport,
    PitReport,
    RtcReport,
    UartReport,
    info_i8042,
    info_pic,
    info_pit,
    info_rtc,
    info_uart,
)
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import RFLAGS
from dbgvmm.devices.i8042 import KEYBOARD_IRQ
from dbgvmm.devices.i8259 import PicChipState
from dbgvmm.devices.rtc import RTC_IRQ
from dbgvmm.devices.uart import COM1_IRQ

DeviceName = Literal["pic", "pit", "uart", "rtc", "i8042"]
DeviceReport = PicReport | PitReport | UartReport | RtcReport | KeyboardReport
_REPORTS: Final[dict[str, Callable[[Session], DeviceReport]]] = {
    "pic": info_pic, "pit": info_pit, "uart": info_uart, "rtc": info_rtc, "i8042": info_i8042,
}  # fmt: skip
_WHOSE: Final = {0: "PIT counter 0", KEYBOARD_IRQ: "keyboard", 2: "the slave", COM1_IRQ: "COM1", RTC_IRQ: "RTC"}
_CASCADE: Final = 2
_NAMES: Final = {
    "DualPic": ("pic", "two 8259A interrupt controllers"),
    "Pit8254": ("pit", "8254 timer"),
    "Uart16550A": ("uart", "16550A serial port, COM1"),
    "Rtc": ("rtc", "MC146818 clock and CMOS memory"),
    "I8042": ("i8042", "keyboard controller without a keyboard"),
    "Port61": ("", "speaker gate and timer 2 status"),
    "Port92": ("", "fast A20 and reset"),
    "PostPort": ("", "progress codes"),
    "DebugConsole": ("", "debug console, as QEMU's"),
    "DebugExit": ("", "isa-debug-exit, as QEMU's"),
    "PowerOff": ("", "power-off, as QEMU's"),
    "ResetControl": ("", "reset control"),
}  # by class


@dataclass(frozen=True)
class DeviceLine:
    """A device: what `info device` calls it ("" if it has no more to show), and its ports as (first, last)."""

    name: str
    what: str
    ports: tuple[tuple[int, int], ...]
    irq: int | None


@dataclass(frozen=True)
class DeviceList:
    """All devices, and windows in guest-physical memory as (base, size)."""

    lines: tuple[DeviceLine, ...]
    windows: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        rows = [
            (
                line.name or "-",
                line.what,
                ", ".join(f"{first:#x}" if first == last else f"{first:#x}-{last:#x}" for first, last in line.ports),
                "" if line.irq is None else str(line.irq),
            )
            for line in self.lines
        ]
        rows += [("-", "memory-mapped", f"memory {base:#x}-{base + size - 1:#x}", "") for base, size in self.windows]
        return columns(rows, ("name", "device", "ports", "IRQ"))


@dataclass(frozen=True)
class InterruptLine:
    """One of the sixteen lines. high: how the device drives it. requested: the controller has a request latched."""

    irq: int
    device: str
    vector: int
    high: bool
    requested: bool
    masked: bool
    in_service: bool


@dataclass(frozen=True)
class InterruptReport:
    """The interrupt lines, and whether the CPU would take one now (`taken`), or why not."""

    lines: tuple[InterruptLine, ...]
    intr: bool
    enabled: bool
    halted: bool

    def __str__(self) -> str:
        rows = [
            (
                str(line.irq),
                line.device,
                f"{line.vector:02x}h",
                "high" if line.high else "low",
                "requested" if line.requested else "",
                "masked" if line.masked else "",
                "in service" if line.in_service else "",
            )
            for line in self.lines
        ]
        cpu = "IF is set" if self.enabled else "IF is clear: none is taken"
        state = f"INTR is {'high' if self.intr else 'low'}, {cpu}{', the CPU waits in HLT' if self.halted else ''}"
        return f"{columns(rows, ('IRQ', 'device', 'vector', 'line', '', '', ''), right=(0,))}\n{state}"


@command("info devices", aliases=("info qtree",))
def info_devices(session: Session) -> DeviceList:
    """List the devices, their ports and interrupt lines; `info device NAME` shows one's registers.

    For example:

        info devices
    """
    board = session.machine.board
    ports: dict[str, list[tuple[int, int]]] = {}
    for first, last, device in board.ports.ranges():
        ports.setdefault(type(device).__name__, []).append((first, last))
    irqs = {"pit": 0, "i8042": KEYBOARD_IRQ, "uart": COM1_IRQ, "rtc": RTC_IRQ}
    lines = []
    for kind, ranges in ports.items():
        name, what = _NAMES.get(kind, ("", kind))
        lines.append(DeviceLine(name, what, tuple(ranges), irqs.get(name)))
    return DeviceList(tuple(lines), tuple(board.mmio.windows()))


@command("info device")
def info_device(session: Session, name: DeviceName) -> DeviceReport:
    """Show the registers of the device NAME.

    For example:

        info device pit
        info device i8042
    """
    return _REPORTS[name](session)


@command("info interrupts", aliases=("info irqs",))
def info_interrupts(session: Session) -> InterruptReport:
    """Show the interrupt lines: who drives them, what is requested, masked, in service, and vectors.

    For example:

        info interrupts
    """
    machine = session.machine
    board, cpu = machine.board, machine.cpu
    state = board.pic.state()
    lines = [_interrupt(state.master if irq < 8 else state.slave, irq) for irq in range(16)]
    return InterruptReport(tuple(lines), board.interrupt_pending(), bool(cpu.rflags & RFLAGS.IF), cpu.halted)


def _interrupt(chip: PicChipState, irq: int) -> InterruptLine:
    bit = 1 << irq % 8
    requested = chip.edge_latch & ~chip.elcr | chip.lines & chip.elcr
    return InterruptLine(
        irq, _WHOSE.get(irq, ""), chip.vector_base + irq % 8, bool(chip.lines & bit), bool(requested & bit),
        bool(chip.imr & bit), bool(chip.isr & bit),
    )  # fmt: skip
