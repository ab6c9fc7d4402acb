"""The real gdb on a guest, both as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class Gdb:
    """`gdb("hello", commands...)`: what gdb prints. `status` and `stderr` are dbgvmm's, `stdout` the guest's.

    file: the file that gdb is given is the kernel's twin of this suffix (True: `.elf64`); none if it is False.
    before: commands that come before it connects.
    """

    def __init__(self, guest: Callable[[str], Path], tmp_path: Path) -> None:
        self._guest = guest
        self._socket = tmp_path / "gdb"
        self.status = -1
        self.stdout = ""
        self.stderr = ""

    def __call__(
        self,
        name: str,
        *commands: str,
        connect: str = "target remote",
        options: tuple[str, ...] = (),
        file: bool | str = True,
        before: tuple[str, ...] = (),
    ) -> str:
        kernel = self._guest(name)
        line = [sys.executable, "-m", "dbgvmm", "run", str(kernel), f"--gdb=unix:{self._socket}", "--wait", *options]
        dbgvmm = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert dbgvmm.stderr is not None
            announced = dbgvmm.stderr.readline()
            assert "waits for gdb" in announced, announced
            arguments = ["gdb", "-nx", "-q", "-batch", "-ex", "set confirm off", "-ex", "set width 0"]
            for command in (*before, f"{connect} {self._socket}", *commands):
                arguments += ["-ex", command]
            if file:
                arguments.append(str(kernel.with_suffix(".elf64" if file is True else file)))
            result = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", timeout=60, check=False,
            )  # fmt: skip
            self.stdout, self.stderr = dbgvmm.communicate(timeout=30)
            self.status = dbgvmm.returncode
        finally:
            dbgvmm.kill()
            dbgvmm.wait()
        return result.stdout
