"""`MachineServer`: a `Machine` of this process, run by a thread for a gdb.

The thread has the machine while the guest runs or gdb is being answered: between two commands of a session the script may
look at the machine's own objects, since nothing of them moves then.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from select import select
from typing import Final

from dbgvmm.commands import Session, command_table
from dbgvmm.commands.monitor import Monitor
from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.symbols import SymbolTable
from dbgvmm.gdb.errors import VmFailed
from dbgvmm.machine import Machine

_LOOK_SECONDS: Final = 0.1
_END_SECONDS: Final = 10.0


class MachineServer:
    """Serves `machine` on a Unix socket of its own, to one gdb, until that leaves. `symbols`: for monitor commands."""

    def __init__(self, machine: Machine, symbols: SymbolTable | None = None) -> None:
        self._machine = machine
        self._directory = tempfile.TemporaryDirectory(prefix="dbgvmm-")
        self._server = GdbServer(
            machine, f"unix:{Path(self._directory.name) / 'gdb'}", Monitor(Session(machine, symbols), command_table())
        )
        self.address = self._server.address
        self._before = machine.service, machine.idle
        machine.service, machine.idle = self._serve_meanwhile, self._wait
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="dbgvmm machine", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - handed to the script's own thread
            self._failure = error
        finally:
            # gdb must not wait for a machine that nobody runs any more.
            self._server.close()

    def _run(self) -> None:
        server, machine = self._server, self._machine
        while not server.wait_for_debugger(_LOOK_SECONDS):
            if self._closing.is_set():
                return
        while server.attached:
            server.serve()
            if not server.attached:
                return
            stop = server.run(machine.run)
            if not server.stopped_for_debugger(stop):
                server.report(stop)

    def _serve_meanwhile(self) -> None:
        service, _ = self._before
        if service is not None:
            service()
        self._server.poll()

    def _wait(self, ns: int) -> None:
        """A guest that waits for an interrupt that no timer brings: wait with it, until gdb says something."""
        _, idle = self._before
        if idle is not None:
            idle(ns)
        elif self._machine.events.next_deadline_ns() is None:
            select(self._server.filenos(), [], [], _LOOK_SECONDS)

    def describe_end(self) -> str:
        """Why gdb has been left alone."""
        if self._failure is not None:
            return f"the thread that runs the machine has ended: {type(self._failure).__name__}: {self._failure}"
        return "the machine is not served any more: gdb has let it go"

    def close(self) -> None:
        """End the thread, once gdb has gone; the machine is the script's again. Raises VmFailed for an error in it."""
        self._closing.set()
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():
            raise VmFailed(f"the thread that runs the machine has not ended within {_END_SECONDS:g} s")
        self._machine.service, self._machine.idle = self._before
        self._directory.cleanup()
        if self._failure is not None:
            raise VmFailed(self.describe_end()) from self._failure
