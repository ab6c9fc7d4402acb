"""`--script`, `py` and `source`: what they give a script, and how its errors are told."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm.commands import CommandError, CommandTable, Session, command_table
from dbgvmm.commands.monitor import Monitor
from dbgvmm.commands.python import PythonValue
from dbgvmm.commands.python_errors import ScriptFailed
from dbgvmm.commands.python_files import run_file
from dbgvmm.debug.stops import StopKind
from gdbstub import TargetError

Guest = Callable[[str], Path]

COMMAND = '''
from __future__ import annotations
from dataclasses import dataclass
from dbgvmm.commands import Session
from dbgvmm.commands.registers import info_registers
from dbgvmm.commands.table import command

@dataclass(frozen=True)
class Calls:
    number: int
    def __str__(self) -> str:
        return f"{self.number} calls"

@machine.on_breakpoint("kmain")
def entered(hit):
    pass

@command("calls", aliases=("howmany",))
def calls(session: Session, plus: int | None = None) -> Calls:
    """Say how often kmain was entered."""
    return Calls(entered.calls)
'''.replace("plus: int | None = None", "*ignored: str")


def dbgvmm(*words: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "dbgvmm", "run", *map(str, words)]
    return subprocess.run(line, input=typed, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "script.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


# -- dbgvmm run --script


def test_a_script_gets_machine_session_and_arguments_and_the_guest_runs_on(guest: Guest, script: Callable[..., Path]) -> None:
    (script("").parent / "beside.py").write_text("WORD = 'found'\n")
    path = script(
        "import sys, beside\n"
        "print(beside.WORD, sys.argv[1:], machine.count, session.machine is machine, __name__ == '__main__')\n"
        "def main(given):\n    print(given is machine, given.symbols['kmain'].address == 0x106000)\n"
    )
    result = dbgvmm(guest("hello"), "--script", path, "--", "--gdb", "two words")
    assert result.stdout == "found ['--gdb', 'two words'] 0 True False\nTrue True\nHello from long mode.\n"
    assert result.returncode == 0


def test_several_scripts_and_hooks_that_stay(guest: Guest, script: Callable[..., Path]) -> None:
    first = script("@machine.on_breakpoint('kmain')\ndef f(hit):\n    print('first', hit.place)\n", "first.py")
    second = script("@machine.on_breakpoint('kmain')\ndef f(hit):\n    print('second')\n", "second.py")
    result = dbgvmm(guest("hello"), "--script", first, "--script", second)
    assert result.stdout == "first 0x106000 <kmain>\nsecond\nHello from long mode.\n"


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("x = 1\ndef main(machine):\n    return 7\n", 7, "the script has ended with status 7"),
        ("import sys\nsys.exit('enough')\n", 1, "enough"),
        ("import sys\n@machine.on_breakpoint('kmain')\ndef f(hit):\n    sys.exit(9)\n", 9, "status 9, after"),
        ("def main(machine):\n    machine.run()\n", 0, "halted with interrupts off"),
        ("x = 1\nx.y\n", 65, "script.py:2: AttributeError: 'int' object has no attribute 'y'"),
        ("def f(:\n", 65, "script.py:1: SyntaxError: invalid syntax"),
        ("a = 0\nmachine.memory[0x7fff0000]\n", 65, "script.py:2: NotMapped: 0x7fff0000 is"),
        ("session.command('info nothing')\n", 65, "script.py:1: 'info nothing' is not a command"),
        ("def main(machine):\n    import json\n    json.loads('{')\n", 65, "script.py:3: JSONDecodeError: Expecting"),
        ("@machine.on_port()\ndef f(hit):\n    assert hit.count == 1\n", 65, "script.py:3: AssertionError: hit.count == 1"),
        ("def main(m):\n    @m.on_port()\n    def f(hit):\n        1 / 0\n    m.run()\n", 65, "script.py:4: ZeroDivision"),
    ],
)  # fmt: skip
def test_how_a_script_ends_is_the_exit_status_and_one_line(
    guest: Guest, script: Callable[..., Path], text: str, status: int, message: str
) -> None:
    result = dbgvmm(guest("hello"), "--script", script(text))
    assert (result.returncode, message in result.stderr) == (status, True), result.stderr
    assert "Traceback" not in result.stderr and "dbgvmm/" not in result.stderr.replace("dbgvmm: ", "")
    assert result.stderr.count("\n") <= 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--script", "/nothing.py"], 66, "script /nothing.py: No such file"),
        (["--script", "/"], 66, "script /: Is a directory"),
        (["--", "word"], 64, "add --script"),
    ],
)
def test_bad_options_are_one_clear_line(guest: Guest, words: list[str], status: int, message: str) -> None:
    result = dbgvmm(guest("hello"), *words)
    assert (result.returncode, result.stderr.count("\n")) == (status, 1) and message in result.stderr


def test_the_limit_holds_for_scripts_too(guest: Guest, script: Callable[..., Path]) -> None:
    path = script("def main(machine):\n    print(machine.run().kind.value, machine.count)\n")
    result = dbgvmm(guest("cpubound-small"), "--max-insns", "123_456", "--script", path)
    assert result.stdout.splitlines()[-1] == "limit 123456" and result.returncode == 72


def test_at_the_prompt_a_failing_hook_is_a_stop_and_the_guest_goes_on(guest: Guest, script: Callable[..., Path]) -> None:
    path = script("@machine.on_breakpoint('kmain')\ndef f(hit):\n    raise ValueError('so\\nit is')\n")
    result = dbgvmm(guest("hello"), "--script", path, "--repl", typed="continue\npy machine.registers.rip\ncontinue\n")
    assert f"{path}:3: ValueError: so it is, after" in result.stdout
    assert f"\n{0x106000}\n" in result.stdout and "Hello from long mode." in result.stdout
    assert "Traceback" not in result.stderr


# -- py and source


@pytest.fixture
def fresh(hello: Session) -> Session:
    """hello's session with a table of its own."""
    hello.table = command_table()
    return hello


def value(session: Session, code: str) -> object:
    result = session.command(f"py {code}")
    assert isinstance(result, PythonValue)
    return result.value


def test_py_evaluates_keeps_names_and_leaves_the_line_alone(fresh: Session) -> None:
    assert value(fresh, "machine is session.machine") is True
    assert value(fresh, "text = 'a  \"b'; other = 5") is None
    assert value(fresh, "text, other  # a comment") == ('a  "b', 5)
    assert value(fresh, "_[1] + 1") == 6
    assert value(fresh, "[other for _ in range(2)]") == [5, 5]
    assert str(fresh.command("py machine.registers.cr0")).endswith("]")
    assert str(fresh.command("py None")) == ""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("(", "SyntaxError: '(' was never closed"),
        ("session.command('info nothing')", "'info nothing' is not a command"),
        ("exit()", "`quit` leaves"),
        ("", "`py` alone is for the prompt on a terminal"),
    ],
)
def test_py_tells_errors_in_one_line(fresh: Session, code: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        fresh.command(f"py {code}")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_gdb_may_run_python_only_where_that_is_allowed_and_gets_what_is_printed(fresh: Session) -> None:
    monitor = Monitor(fresh, fresh.table)
    for line in ("py 1 + 1", "source x.py"):
        with pytest.raises(TargetError, match="--gdb-python`"):
            monitor(line, lambda text: None)
    fresh.host_access = True
    assert monitor("py print('seen'); x = 2", lambda text: None) == "seen"
    assert monitor("py x + 1", lambda text: None) == "3"
    assert "maintenance flush" in monitor("py machine.step()", lambda text: None)


def test_a_file_adds_commands_to_table_help_and_completion(fresh: Session, script: Callable[..., Path]) -> None:
    path = script(COMMAND)
    result = fresh.command(f"source {path}")
    assert result.commands == ("calls",) and str(result) == f"{path}: 1 command added: calls"
    assert fresh.command("calls").number == 0
    fresh.run()
    assert str(fresh.command("howmany")) == "1 calls"
    assert "Say how often kmain was entered." in str(fresh.command("help calls"))
    assert fresh.table.complete(fresh, "calls") == ["calls"]
    assert fresh.command("info hooks").hooks[0].what == "arrival at kmain"


def test_a_file_that_is_read_again_replaces_its_commands_and_hooks(fresh: Session, script: Callable[..., Path]) -> None:
    path = script(COMMAND)
    fresh.command(f"source {path}")
    script(COMMAND.replace('"calls", aliases=("howmany",)', '"visits"'))
    fresh.command(f"source {path}")
    assert "visits" in {item.name for item in fresh.table.commands}
    with pytest.raises(CommandError, match="there is no command 'calls'"):
        fresh.command("calls")
    assert len(fresh.machine.hooks.active) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n1 / 0\n", r":2: ZeroDivisionError: division by zero$"),
        ("x = (\n", r":1: SyntaxError: '\(' was never closed$"),
        (COMMAND.replace('"calls"', '"continue"'), "two commands are called 'continue': choose another name$"),
        (COMMAND.replace("*ignored: str", "what: float"), r":\d+: TypeError: a command's parameter cannot be annotated"),
    ],
)
def test_a_broken_file_is_one_error_and_changes_no_command(
    fresh: Session, script: Callable[..., Path], text: str, message: str
) -> None:
    before = fresh.table.commands
    with pytest.raises(CommandError, match=message) as caught:
        fresh.command(f"source {script(text)}")
    assert "\n" not in str(caught.value) and fresh.table.commands == before


def test_source_says_what_it_cannot_do(fresh: Session, tmp_path: Path) -> None:
    for line, message in (
        ("source", "FILE is missing"), (f"source {tmp_path}/no.py", "No such file"),
    ):  # fmt: skip
        with pytest.raises(CommandError, match=message):
            fresh.command(line)


def test_ctrl_c_ends_python_that_loops_and_leaves_the_session(fresh: Session) -> None:
    fresh.busy = True  # as a front end has it, which then asks the command to end by itself
    with pytest.raises(CommandError, match="interrupted by Ctrl-C"):
        fresh.command("py (_ for _ in ()).throw(KeyboardInterrupt)")
    assert fresh.busy and value(fresh, "session.busy") is False


def test_run_file_gives_what_main_returned(fresh: Session, script: Callable[..., Path]) -> None:
    path = script("def main(machine):\n    return machine.step().kind\n")
    assert run_file(fresh, path).result is StopKind.STEP and fresh.machine.count == 1
    assert run_file(fresh, path, main=False).result is None
    with pytest.raises(ScriptFailed, match="No such file"):
        run_file(fresh, path.with_name("none.py"))


def test_a_table_replaces_all_or_nothing(table: CommandTable) -> None:
    mine = CommandTable(lambda: table.commands)
    with pytest.raises(ValueError, match="two commands"):
        mine.replace((), table.commands[:1] and [type(table.commands[0])(table.commands[0].function, "help", (), False, False)])
    assert mine.commands == table.commands
    mine.replace(table.commands[:1], ())
    assert mine.commands == table.commands[1:]


def test_the_python_prompt_on_a_terminal_knows_the_machine(guest: Guest, tmp_path: Path) -> None:
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(tmp_path)}
    main, secondary = pty.openpty()
    line = [sys.executable, "-m", "dbgvmm", "run", str(guest("hello")), "--repl"]
    process = subprocess.Popen(line, stdin=secondary, stdout=secondary, stderr=secondary, env=environment)
    os.close(secondary)
    try:
        _expect(main, b"(dbgvmm)")
        os.write(main, b"py\r")
        _expect(main, b">>>")
        os.write(main, b"machine.step().kind.value, 6 * 7\r")
        assert b"step" in _expect(main, b"42")
        os.write(main, b"exit()\r")
        _expect(main, b"(dbgvmm)")
        os.write(main, b"py machine.count + 1000\r")
        _expect(main, b"1001")
        os.write(main, b"quit\r")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)


def _expect(fileno: int, text: bytes, seconds: float = 30) -> bytes:
    seen, end = b"", time.monotonic() + seconds
    while text not in seen and time.monotonic() < end:
        if select.select([fileno], [], [], 0.1)[0]:
            seen += os.read(fileno, 4096)
    assert text in seen, seen
    return seen
