"""gdb with a script of tracepoint commands, on a guest; and gdb with a trace file alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from gdb_process import Gdb

GUEST = "cpubound-small"
TO_THE_END = "hbreak verdict"


class TracingGdb:
    """`gdb(script)`: what gdb prints for the lines of a script, every one of which works; `kill` follows them."""

    def __init__(self, guest: Callable[[str], Path], tmp_path: Path) -> None:
        self.run = Gdb(guest, tmp_path)
        self.directory = tmp_path

    def __call__(self, script: str, *, name: str = GUEST) -> str:
        file, start = self.directory / "script.gdb", self.directory / "start"
        file.write_text(f"{script}\nkill\n")
        start.write_text("break kernel_entry\ncontinue\ndelete\n")  # to 64-bit code, whose registers tracepoints collect
        text = self.run(name, "set pagination off", f"source {file}", options=("--command", str(start)))
        assert "Error in sourced command file" not in text, text
        return text


def read_without_target(program: Path, *commands: str) -> str:
    """What a gdb with nothing but files prints."""
    arguments = ["gdb", "-nx", "-q", "-batch", "-ex", "set width 0", "-ex", "set pagination off"]
    for command in commands:
        arguments += ["-ex", command]
    result = subprocess.run(
        [*arguments, str(program)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return result.stdout
