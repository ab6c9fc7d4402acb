"""The command line: `dbgvmm run KERNEL ...`, `dbgvmm report KERNEL ...`, `dbgvmm demo`."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from dbgvmm.boot.state import BootError
from dbgvmm.commands import CommandError, Session, command_table
from dbgvmm.commands.monitor import Monitor
from dbgvmm.commands.python_errors import ScriptFailed
from dbgvmm.debug.gdb_server import GdbServer
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.symbols import SymbolError, SymbolFile, SymbolTable, compare_with_guest, load_symbols
from dbgvmm.debug.symbols.kernel import symbols_of_kernel
from dbgvmm.devices.serial_backend import ConsoleKeys, SerialBackend, SerialError, SocketSerial, open_serial
from dbgvmm.devices.serial_backend.stdio import StdioSerial
from dbgvmm.exit_status import ExitStatus, status_of
from dbgvmm.machine import Machine, MachineConfig
from dbgvmm.options import parse_arguments
from dbgvmm.outside import Outside
from dbgvmm.sampled_run import SampledRunError, check_sampling, start_sampling, write_sampling
from dbgvmm.supervisor import PythonScript, Repl, Script, ScriptError, Supervisor
from gdbstub import TransportError


class Refused(Exception):
    """The run cannot begin (or go on). The message is one line; `status` the exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        if options.action == "demo":
            from dbgvmm.demo import demo  # it is not needed to run a guest

            return demo()
        return run(options)
    except SampledRunError as error:
        say(str(error))
        return ExitStatus.USAGE
    except Refused as error:
        say(str(error))
        return error.status
    except KeyboardInterrupt:
        say("interrupted")
        return ExitStatus.INTERRUPTED


def say(text: str) -> None:
    """One line for people."""
    print(f"dbgvmm: {text}", file=sys.stderr, flush=True)


def run(options: argparse.Namespace) -> int:
    """`dbgvmm run`. Raises Refused."""
    check_writable("--stats", options.stats)
    check_writable("--count", options.count)
    check_sampling(options)
    scripts = read_scripts(options)
    machine = boot(options)
    symbols = find_symbols(options.symbols, options.kernel, machine)
    if symbols is not None:
        machine.symbols.add(symbols)
        warn_of_other_build(symbols, machine)
    if options.count is not None:
        machine.counters.start()
    start_sampling(options, machine)
    keys = LateKeys()
    with ExitStack() as resources:
        serial = open_serial_line(options, keys)
        resources.callback(serial.close)
        table = command_table()
        gdb_session = Session(machine, table=table)
        gdb = open_gdb(options.gdb, gdb_session)
        gdb_session.host_access = options.gdb_python
        if gdb is not None:
            resources.callback(gdb.close)
        outside = Outside(machine, serial, gdb)
        supervisor = Supervisor(
            machine, table, outside, gdb,
            max_count=options.max_insns, restart_on_reset=options.on_reset == "restart",
        )  # fmt: skip
        keys.supervisor = supervisor
        gdb_session.run_with(supervisor.run)
        supervisor.repl_wanted = options.repl
        supervisor.make_repl = lambda: make_repl(supervisor)
        announce(options, outside, gdb)
        started = perf_counter()
        stop, ended = supervise(supervisor, scripts, python_scripts(options), options)
        seconds = perf_counter() - started
        if isinstance(serial, SocketSerial) and serial.unsent:
            say(f"{serial.unsent:,} bytes of serial output are lost: no client has read them (--wait gives one time to come)")
    if not outside.at_line_start and sys.stdout.isatty():
        print(flush=True)
    at_prompt = supervisor.repl_wanted or options.batch
    left_by_choice = at_prompt and (stop is None or not (stop.kind.final or stop.kind is StopKind.QUIT))
    text = "left at the prompt" if stop is None or left_by_choice else stop.text
    if ended is not None:
        text = f"the script has ended with status {ended}"
    say(f"{text}, after {machine.count:,} instructions and {seconds:.2f} s")
    status = ExitStatus.COMMAND_FAILED if supervisor.failed else ExitStatus.OK if left_by_choice else status_of(stop)
    status = status if ended is None else ended
    write_stats(options.stats, machine, status, seconds)
    if options.count is not None:
        save_counts(options.count, machine)
        say(f"the counts are in {options.count}")
    for line in write_sampling(options, machine):
        say(line)
    gc.freeze()  # the process ends here: no last search of the translation cache for garbage
    return status


def supervise(
    supervisor: Supervisor, scripts: list[Script], python: Sequence[PythonScript], options: argparse.Namespace
) -> tuple[Stop | None, int | None]:
    """Run to the end: the last stop, and the exit status if a script has ended everything. Raises Refused."""
    try:
        return supervisor.main(*scripts, python=python, wait=options.wait, batch=options.batch), None
    except SystemExit as end:
        if isinstance(end.code, str):
            say(end.code)
        return supervisor.machine.last_stop, end.code if isinstance(end.code, int) else int(end.code is not None)
    except ScriptFailed as error:
        raise Refused(str(error), ExitStatus.COMMAND_FAILED) from error
    except ScriptError as error:
        raise Refused(str(error), ExitStatus.COMMAND_FAILED) from error
    except SerialError as error:
        raise Refused(str(error), ExitStatus.UNUSABLE_FILE) from error


def python_scripts(options: argparse.Namespace) -> list[PythonScript]:
    """The Python files. The arguments behind `--` are for all of them. Raises Refused for one that cannot be read."""
    for path in options.script:
        try:
            path.open("rb").close()
        except OSError as error:
            raise Refused(f"script {path}: {error.strerror}", ExitStatus.UNUSABLE_FILE) from error
    return [PythonScript(path, tuple(options.arguments)) for path in options.script]


def read_scripts(options: argparse.Namespace) -> list[Script]:
    """What is to be run first: the startup file, if there will be a prompt, then -x and -e in their order. Raises Refused."""
    scripts: list[Script] = []
    if options.repl and options.startup:
        from dbgvmm.repl import startup_lines, startup_path

        try:
            scripts.append(Script.of(str(startup_path()), startup_lines(), fatal=False))
        except CommandError as error:
            say(str(error))
    for item in options.scripts or ():
        scripts.append(Script((("-e", item),)) if isinstance(item, str) else read_script(item))
    return scripts


def read_script(path: Path) -> Script:
    """A file of commands. Raises Refused."""
    try:
        return Script.of(str(path), path.read_text().splitlines())
    except OSError as error:
        raise Refused(f"commands {path}: {error.strerror}", ExitStatus.UNUSABLE_FILE) from error
    except UnicodeDecodeError as error:
        raise Refused(f"commands {path}: not a text file", ExitStatus.UNUSABLE_FILE) from error


def boot(options: argparse.Namespace) -> Machine:
    """The machine with its kernel loaded. Raises Refused."""
    try:
        machine = Machine(MachineConfig(memory=options.memory, user=options.user, validate=options.validate))
    except (OSError, MemoryError) as error:
        raise Refused(
            f"{options.memory >> 20}M of RAM cannot be had: {error}; give less with --memory", ExitStatus.USAGE
        ) from error
    try:
        machine.boot(options.kernel, options.append, options.initrd)
    except BootError as error:
        raise Refused(str(error), ExitStatus.UNUSABLE_FILE) from error
    return machine


def find_symbols(given: Path | None, kernel: Path, machine: Machine) -> SymbolTable | None:
    """The symbols of the file given, else the kernel's own, if it has any. Raises Refused for the file given."""
    if given is None:
        own = machine.boot_state.symbols_file if machine.boot_state is not None else None
        return symbols_of_kernel(kernel, own)
    try:
        return load_symbols(given)
    except SymbolError as error:
        raise Refused(str(error), ExitStatus.UNUSABLE_FILE) from error


def warn_of_other_build(symbols: SymbolTable, machine: Machine) -> None:
    """Say it if the symbols are another program's. Later, when more is mapped, the command `symbols` says it."""
    if isinstance(symbols, SymbolFile) and symbols.path != machine.kernel:
        match = compare_with_guest(symbols, machine)
        if match.state == "differs":
            say(f"warning: symbols {symbols.path}: {match}")


class LateKeys:
    """The console's escape keys, for a supervisor that is made after the console."""

    def __init__(self) -> None:
        self.supervisor: Supervisor | None = None

    def console_keys(self) -> ConsoleKeys:
        """What the serial backend calls."""
        return ConsoleKeys(self._leave, self._to_repl, self._interrupt)

    def _interrupt(self) -> bool:
        return self.supervisor is not None and self.supervisor.interrupt()

    def _leave(self) -> None:
        if self.supervisor is not None:
            self.supervisor.leave()

    def _to_repl(self) -> None:
        if self.supervisor is not None:
            self.supervisor.to_repl()


def open_serial_line(options: argparse.Namespace, keys: LateKeys) -> SerialBackend:
    """The serial backend. With a REPL that reads a pipe, the guest gets no input: the lines are the REPL's."""
    try:
        if options.serial == "stdio" and options.repl and not sys.stdin.isatty():
            return StdioSerial(keys.console_keys(), input_fd=os.open(os.devnull, os.O_RDONLY))
        serial = open_serial(options.serial, keys.console_keys())
    except SerialError as error:
        bad_file = options.serial.startswith("file:")
        raise Refused(str(error), ExitStatus.UNUSABLE_FILE if bad_file else ExitStatus.USAGE) from error
    if isinstance(serial, StdioSerial):
        serial.suspend()
    return serial


def open_gdb(address: str | None, session: Session) -> GdbServer | None:
    """The gdb server, if one is wanted. Raises Refused."""
    if address is None:
        return None
    try:
        return GdbServer(session.machine, address, Monitor(session, session.table), say)
    except TransportError as error:
        raise Refused(f"--gdb: {error}", ExitStatus.USAGE) from error


def make_repl(supervisor: Supervisor) -> Repl:
    """The REPL for what standard input is."""
    from dbgvmm.repl import LiveScreen, PlainReader, PlainScreen, ReplLoop, TerminalReader, TerminalScreen, python_prompt

    gdb, session, table = supervisor.gdb, supervisor.session, supervisor.table
    table.load()  # now, and not while a person waits for the first command
    filenos = gdb.filenos if gdb is not None else tuple

    def serve() -> bool:
        return gdb is not None and gdb.serve_beside_a_prompt()

    def taken() -> bool:
        return supervisor.left or serve()

    if sys.stdin.isatty():
        session.python_prompt = python_prompt
        if sys.stdout.isatty():
            session.screen = LiveScreen(supervisor.outside)
        screen = TerminalScreen(session) if sys.stdout.isatty() else PlainScreen()
        return ReplLoop(session, table, TerminalReader(session, table, filenos, serve), taken, screen)
    return ReplLoop(session, table, PlainReader(sys.stdin.fileno(), filenos, serve), taken)


def announce(options: argparse.Namespace, outside: Outside, gdb: GdbServer | None) -> None:
    """Say what a person has to know before anything runs."""
    if gdb is not None:
        first = "the guest waits for" if options.wait else "serving"
        say(f"{first} gdb: target remote {gdb.address}")
    if outside.has_keyboard:
        say("this terminal is the guest's serial line: ^A x leaves, ^A c stops the guest for commands, ^A ^A sends ^A")


def check_writable(option: str, path: Path | None) -> None:
    """Find out now rather than after a long run. Raises Refused."""
    if path is None:
        return
    try:
        path.open("w").close()
    except OSError as error:
        raise Refused(f"{option} {path}: {error.strerror}", ExitStatus.UNUSABLE_FILE) from error


def save_counts(path: Path, machine: Machine) -> None:
    """What was counted, as the file's name says. Raises Refused."""
    from dbgvmm.profile.counters import CountersError
    from dbgvmm.profile.lines import LineError
    from dbgvmm.profile.saving import save_by_suffix

    try:
        save_by_suffix(machine, path)
    except (CountersError, LineError) as error:
        raise Refused(f"--count {path}: {error}", ExitStatus.UNUSABLE_FILE) from error
    except OSError as error:
        raise Refused(f"--count {path}: {error.strerror}", ExitStatus.UNUSABLE_FILE) from error


def write_stats(path: Path | None, machine: Machine, status: int, seconds: float) -> None:
    """All counters as one JSON object. Raises Refused."""
    if path is None:
        return
    facts = {"exit_status": int(status), "seconds_wall": seconds, **machine.stats()}
    try:
        path.write_text(json.dumps(facts, indent=2) + "\n")
    except OSError as error:
        raise Refused(f"--stats {path}: {error.strerror}", ExitStatus.UNUSABLE_FILE) from error
