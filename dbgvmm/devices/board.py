"""The mainboard: every device of the PC on its ports and its interrupt line.

There is no PCI, disk, display, DMA or parallel port: those ports read as ones, which is how drivers find out.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dbgvmm.devices.a20 import A20Gate, A20State
from dbgvmm.devices.bus import MmioBus, PortBus
from dbgvmm.devices.debug_ports import DebugConsole, DebugExit, PostPort, PostState
from dbgvmm.devices.i8042 import I8042, KEYBOARD_IRQ, I8042State
from dbgvmm.devices.pic import DualPic, PicState
from dbgvmm.devices.pit import Pit8254, PitState
from dbgvmm.devices.port61 import Port61
from dbgvmm.devices.port92 import Port92
from dbgvmm.devices.poweroff import PowerOff
from dbgvmm.devices.reset import ResetControl
from dbgvmm.devices.rtc import RTC_IRQ, Rtc, RtcState
from dbgvmm.devices.uart import COM1_IRQ, Uart16550A, UartState
from dbgvmm.devices.wires import ByteSink, Signal
from dbgvmm.timeline.clock import InstructionClock
from dbgvmm.timeline.events import EventQueue

PIT_IRQ: Final = 0

# What a PC's firmware programs before it starts an operating system: the interrupt controllers at vectors 08h
# and 70h with only timer, keyboard and cascade enabled, and the timer at 18.2 Hz.
_FIRMWARE_WRITES: Final = (
    (0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xF8),
    (0xA0, 0x11), (0xA1, 0x70), (0xA1, 0x02), (0xA1, 0x01), (0xA1, 0xFF),
    (0x43, 0x36), (0x40, 0x00), (0x40, 0x00),
    (0x43, 0x54), (0x41, 0x12),
)


@dataclass(frozen=True, slots=True)
class BoardState:
    """Every device's state. The clock and the event queue belong to the machine and are saved beside it."""

    a20: A20State
    pic: PicState
    pit: PitState
    port61: int
    uart: UartState
    rtc: RtcState
    keyboard: I8042State
    port92: int
    post: PostState
    power_off: int
    reset_control: int


class Board:
    """A PC's devices, wired up.

    `serial_sink` gets what the guest sends on COM1, `debug_sink` what it writes to port E9h (the serial sink's
    twin unless given). `on_exit` gets the code of the debug exit port, `on_a20` each change of the A20 line.
    `rtc_epoch` is the time at power on in UTC seconds after 1970; `memory_size` is in bytes.

    Restoring a snapshot: clock, then `EventQueue.load_state`, then `Board.load_state`.
    """

    def __init__(
        self,
        clock: InstructionClock,
        events: EventQueue,
        *,
        memory_size: int,
        serial_sink: ByteSink,
        on_exit: Callable[[int], None],
        on_power_off: Signal,
        on_reset: Signal,
        rtc_epoch: int,
        debug_sink: ByteSink | None = None,
        on_interrupt_change: Callable[[bool], None] | None = None,
        on_a20: Callable[[bool], None] | None = None,
    ) -> None:
        self.ports = PortBus()
        self.mmio = MmioBus()
        self.a20 = A20Gate(on_a20)
        self.pic = DualPic(on_interrupt_change)
        self.pit = Pit8254(clock, events, self.pic.line(PIT_IRQ))
        self.port61 = Port61(clock, self.pit)
        self.uart = Uart16550A(serial_sink, self.pic.line(COM1_IRQ))
        self.rtc = Rtc(clock, events, self.pic.line(RTC_IRQ), epoch=rtc_epoch, memory_size=memory_size)
        self.keyboard = I8042(self.pic.line(KEYBOARD_IRQ), self.a20, on_reset)
        self.port92 = Port92(self.a20, on_reset)
        self.post = PostPort()
        self.debug_console = DebugConsole(debug_sink or serial_sink)
        self.debug_exit = DebugExit(on_exit)
        self.power_off = PowerOff(on_power_off)
        self.reset_control = ResetControl(on_reset)
        for device in (
            self.pic, self.pit, self.port61, self.uart, self.rtc, self.keyboard, self.port92, self.post,
            self.debug_console, self.debug_exit, self.power_off, self.reset_control,
        ):
            device.attach(self.ports)

    def interrupt_pending(self) -> bool:
        """INTR is high: the CPU should take an interrupt once IF allows."""
        return self.pic.has_interrupt()

    def acknowledge_interrupt(self) -> int:
        """The CPU takes the interrupt: its vector."""
        return self.pic.acknowledge()

    def reset(self) -> None:
        """The reset line: every device as at power on. The RTC keeps its time and the UART its waiting input."""
        self.pic.reset()
        self.pit.reset()
        self.port61.reset()
        self.uart.reset()
        self.rtc.reset()
        self.keyboard.reset()
        self.port92.reset()
        self.a20.reset()
        self.post.reset()
        self.power_off.reset()
        self.reset_control.reset()

    def program_as_firmware(self) -> None:
        """Leave the devices as PC firmware does, for guests that are loaded without running any."""
        for port, value in _FIRMWARE_WRITES:
            self.ports.write(port, value, 1)

    def state(self) -> BoardState:
        """A copy of every device's state."""
        return BoardState(
            a20=self.a20.state(),
            pic=self.pic.state(),
            pit=self.pit.state(),
            port61=self.port61.state(),
            uart=self.uart.state(),
            rtc=self.rtc.state(),
            keyboard=self.keyboard.state(),
            port92=self.port92.state(),
            post=self.post.state(),
            power_off=self.power_off.state(),
            reset_control=self.reset_control.state(),
        )

    def load_state(self, state: BoardState) -> None:
        """Take over every device's state; the clock and the event queue must have been restored before."""
        self.a20.load_state(state.a20)
        self.pic.load_state(state.pic)
        self.pit.load_state(state.pit)
        self.port61.load_state(state.port61)
        self.uart.load_state(state.uart)
        self.rtc.load_state(state.rtc)
        self.keyboard.load_state(state.keyboard)
        self.port92.load_state(state.port92)
        self.post.load_state(state.post)
        self.power_off.load_state(state.power_off)
        self.reset_control.load_state(state.reset_control)
