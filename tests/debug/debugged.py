"""A machine under the server, and a debugger that is a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rsp_session import RspSession

from dbgvmm import Machine
from dbgvmm.commands import Session, command_table
from dbgvmm.commands.monitor import Monitor
from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.stops import Stop
from dbgvmm.devices.serial_backend import NullSerial
from dbgvmm.outside import Outside
from dbgvmm.supervisor import Supervisor

LIMIT = 300_000_000


class Debugged:
    """A machine under a supervisor, and a debugger's script that runs beside it."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.machine = machine
        self.path = path
        self.said: list[str] = []
        self.server = GdbServer(machine, f"unix:{path}", Monitor(Session(machine), command_table()), self.said.append)

    def run(self, script: Callable[[RspSession], None], *, wait: bool = True) -> Stop | None:
        """Run the machine while `script` debugs it; the stop that ended the run."""
        failures: list[BaseException] = []

        def debugger() -> None:
            session = RspSession(self.path)
            try:
                script(session)
            except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
                failures.append(error)
            finally:
                session.close()

        outside = Outside(self.machine, NullSerial(), self.server)
        supervisor = Supervisor(self.machine, command_table(), outside, self.server, max_count=LIMIT)
        thread = threading.Thread(target=debugger, daemon=True)
        thread.start()
        stop = supervisor.main(wait=wait)
        thread.join(20)
        if failures:
            raise failures[0]
        return stop


def little(reply: bytes) -> int:
    """A register's or memory's hexadecimal digits as a number."""
    return int.from_bytes(bytes.fromhex(reply.decode()), "little")
