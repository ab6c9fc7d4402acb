"""Where the other end of the guest's serial line goes. `open_serial` makes one from what the user typed."""
from __future__ import annotations

from dbgvmm.devices.serial_backend.base import ConsoleKeys, NullSerial, SerialBackend, SerialError
from dbgvmm.devices.serial_backend.sockets import SocketSerial
from dbgvmm.devices.serial_backend.spec import SERIAL_HELP, open_serial

__all__ = ["SERIAL_HELP", "ConsoleKeys", "NullSerial", "SerialBackend", "SerialError", "SocketSerial", "open_serial"]
