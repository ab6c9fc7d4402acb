"""`GdbSession`: a guest debugged by a script, through the real gdb.

    with GdbSession.run("guests/build/hello.elf") as gdb:
        gdb.break_at("kmain", condition="magic == 0x2badb002")
        stop = gdb.continue_()
        print(stop.frame, gdb.registers("rip", "cr3"), gdb.monitor("translate kmain"))

The end of the block ends gdb and the machine, however it is left.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dbgvmm.debug.symbols import load_symbols
from dbgvmm.gdb.breaking import Breaking
from dbgvmm.gdb.channel import Channel, quoted
from dbgvmm.gdb.commands import COMMAND_SECONDS, STOP_SECONDS
from dbgvmm.gdb.errors import SessionError, TimedOut
from dbgvmm.gdb.looking import Looking
from dbgvmm.gdb.running import Running
from dbgvmm.gdb.serving import MachineServer
from dbgvmm.gdb.vm import VmProcess
from dbgvmm.machine import Machine

_SETTINGS: Final = (
    "mi-async on", "confirm off", "pagination off", "width 0", "style enabled off", "debuginfod enabled off",
    "dprintf-style agent",
)  # fmt: skip
_NOT_IN_OLDER_GDB: Final = "debuginfod enabled off"
_LOOK_SECONDS: Final = 0.05
"""How often the guest's serial output is looked at."""


class GdbSession(Running, Breaking, Looking):
    """Made by `GdbSession.run`, `attach` or `serve`. Not for several threads at once."""

    def __init__(
        self, channel: Channel, vm: VmProcess | MachineServer | None, command_timeout: float, stop_timeout: float
    ) -> None:
        super().__init__(channel, command_timeout, stop_timeout)
        self._vm = vm
        self._read_so_far = 0
        """Bytes of the serial output in which `continue_to_output` has found what it wanted."""

    @classmethod
    def run(
        cls,
        kernel: str | Path,
        *,
        initrd: str | Path | None = None,
        append: str = "",
        memory: str = "",
        symbols: str | Path | None = None,
        options: Sequence[str] = (),
        gdb: str = "gdb",
        command_timeout: float = COMMAND_SECONDS,
        stop_timeout: float = STOP_SECONDS,
    ) -> Self:
        """Boot `kernel` in a machine of its own; the guest stands in front of its first instruction.

        initrd, append, memory ("256M") and options (any of `dbgvmm run --help`) are those of the command line. symbols: an
        ELF file for gdb and the monitor, if the kernel's own are not enough. gdb: its name or path. Timeouts: seconds.
        Raises GdbMissing, VmFailed, CommandFailed.
        """
        arguments = [str(kernel), *options]
        arguments += ["--initrd", str(initrd)] if initrd is not None else []
        arguments += [f"--append={append}"] if append else []
        arguments += ["--memory", memory] if memory else []
        arguments += ["--symbols", str(symbols)] if symbols is not None else []
        with ExitStack() as resources:
            channel = Channel(gdb)
            # The machine first: a gdb whose target has gone needs no time to let it go.
            resources.callback(channel.close)
            vm = VmProcess(arguments, command_timeout)
            resources.callback(vm.close)
            return cls(channel, vm, command_timeout, stop_timeout)._connect(vm.address, symbols, resources)

    @classmethod
    def attach(
        cls,
        address: str,
        *,
        symbols: str | Path | None = None,
        gdb: str = "gdb",
        command_timeout: float = COMMAND_SECONDS,
        stop_timeout: float = STOP_SECONDS,
    ) -> Self:
        """Debug a machine that runs already, at "HOST:PORT" or the path of a Unix socket (`dbgvmm run --gdb=...`).

        It stops, and runs on when the session ends. Raises GdbMissing, CommandFailed.
        """
        with ExitStack() as resources:
            channel = Channel(gdb)
            resources.callback(channel.close)
            return cls(channel, None, command_timeout, stop_timeout)._connect(address, symbols, resources)

    @classmethod
    def serve(
        cls,
        machine: Machine,
        *,
        symbols: str | Path | None = None,
        gdb: str = "gdb",
        command_timeout: float = COMMAND_SECONDS,
        stop_timeout: float = STOP_SECONDS,
    ) -> Self:
        """Debug a booted machine of this process. A thread runs it; while it stands still the script may look at its
        objects, too. It stands still when the session ends. Raises GdbMissing, CommandFailed, SymbolError.
        """
        table = load_symbols(Path(symbols)) if symbols is not None else None
        with ExitStack() as resources:
            server = MachineServer(machine, table)
            # gdb first: the thread ends when gdb has gone.
            resources.callback(server.close)
            channel = Channel(gdb)
            resources.callback(channel.close)
            return cls(channel, server, command_timeout, stop_timeout)._connect(server.address, symbols, resources)

    def _connect(self, address: str, symbols: str | Path | None, resources: ExitStack) -> Self:
        """Set gdb up; take over `resources` once that has worked."""
        for setting in _SETTINGS:
            try:
                self.mi(f"-gdb-set {setting}")
            except SessionError:
                if setting != _NOT_IN_OLDER_GDB:
                    raise
        if symbols is not None and _is_elf(Path(symbols)):
            self.mi(f"-file-exec-and-symbols {quoted(str(symbols))}")
        self.mi(f"-target-select remote {address.removeprefix('unix:')}")
        self.wait_for_stop(self.command_timeout)
        # Also for a session that is never closed: nothing stays behind a script.
        self._close = weakref.finalize(self, resources.pop_all().close)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End gdb, and the machine if `run` has started it. Again: nothing."""
        self._close()

    # -- the machine that `run` has started

    @property
    def exit_code(self) -> int | None:
        """The guest's own exit code, as its last stop told; None as long as it has not ended."""
        return self.last_stop.exit_code if self.last_stop is not None else None

    def serial_output(self) -> str:
        """All that the guest has sent on its serial line so far, as UTF-8. Empty if `options` lead the line elsewhere."""
        return self._own_vm().serial_output().decode("utf-8", "replace")

    def serial_input(self, text: str) -> None:
        """Type on the guest's serial line. The guest gets it when it runs next."""
        self._own_vm().serial_input(text.encode())

    def continue_to_output(self, text: str, timeout: float | None = None) -> str:
        """Run until the guest has sent `text` on its serial line, and stop it: for moments without an address, such as a
        prompt. Where the guest then stands is chance.

        Looked through, and given back as far as `text`, is what came behind the last such find; if it is there already, the
        guest does not run. Raises TimedOut, and SessionError if the guest stops before.
        """
        vm, wanted, start = self._own_vm(), text.encode(), self._read_so_far
        seconds = self.stop_timeout if timeout is None else timeout

        def seen() -> bool:
            return wanted in vm.serial_output(start)

        if not seen():
            self.resume()
            inbox = self._channel.inbox
            self._channel.wait_until(lambda: seen() or not inbox.running, seconds, _LOOK_SECONDS)
            too_late = inbox.running
            stop = self.interrupt()
            if not seen():
                if too_late:
                    raise TimedOut(f"the guest has not printed {text!r} within {seconds:g} s")
                raise SessionError(f"the guest has stopped ({stop.reason or stop.signal}) without having printed {text!r}")
        before, found, _ = vm.serial_output(start).partition(wanted)
        self._read_so_far += len(before) + len(found)
        return (before + found).decode("utf-8", "replace")

    def messages(self) -> str:
        """What dbgvmm itself has said on standard error."""
        return self._own_vm().messages

    def vm_status(self, timeout: float = 0.0) -> int | None:
        """The exit status of `dbgvmm run`; None if it still runs after `timeout` seconds."""
        return self._own_vm().status(timeout)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process numbers of gdb and, if `run` has started it, the machine."""
        own = (self._vm.pid,) if isinstance(self._vm, VmProcess) else ()
        return (self._channel.pid, *own)

    def _own_vm(self) -> VmProcess:
        if not isinstance(self._vm, VmProcess):
            raise SessionError("this session has not started the machine: its serial line and messages are elsewhere")
        return self._vm

    def _why_lost(self) -> str:
        if self._vm is None:
            return "the machine has gone, or the session has been detached from it"
        return self._vm.describe_end()


def _is_elf(path: Path) -> bool:
    """The monitor takes a System.map, too, of which gdb knows nothing. Raises SessionError."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError as error:
        raise SessionError(f"symbols {path}: {error.strerror}") from error
