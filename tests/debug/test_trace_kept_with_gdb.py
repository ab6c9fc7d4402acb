"""Traces that outlive gdb: saved to files, and going on in the target without it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tracing_gdb import GUEST, TO_THE_END, TracingGdb, read_without_target

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")


@pytest.fixture
def gdb(guest: Callable[[str], Path], tmp_path: Path) -> TracingGdb:
    return TracingGdb(guest, tmp_path)


@pytest.mark.parametrize("all_registers", [True, False])
def test_a_saved_trace_can_be_read_without_the_target(
    gdb: TracingGdb, guest: Callable[[str], Path], all_registers: bool
) -> None:
    """gdb takes a file to have the registers of the `g` packet once it has sent one (`info registers`), before that all."""
    file = gdb.directory / "trace"
    gdb(f"""
tvariable $calls
trace main.c:18
actions
collect $regs, $locals, checks
end
trace fib if n == 3
actions
teval $calls = $calls + 1
collect n, $calls
while-stepping 2
collect $rip
end
end
passcount 2 2
{TO_THE_END}
tstart
continue
{"" if all_registers else "flushregs"}
{"" if all_registers else "info registers xmm3"}
tsave {file}
""")
    text = read_without_target(
        guest(GUEST).with_suffix(".elf64"), f"target tfile {file}", "tstatus", "info tracepoints", "tfind tracepoint 1",
        "tdump", "tfind tracepoint 1", "print checks", "print got", "print $cr3", "print failures", "print $r12",
        "tfind tracepoint 2", "print n", "print $calls", "tfind", "print $rip", "tfind 7", "tfind",
    )  # fmt: skip
    assert "Trace stopped by tracepoint 2." in text
    assert "collect n, $calls" in text
    assert "trace only if n == 3" in text
    assert "Data collected at tracepoint 1, trace frame 0:" in text
    assert "got = 3051824352\n" in text
    values = dict(re.findall(r"^\$(\d+) = (.*)$", text, re.MULTILINE))
    assert (values["1"], values["2"]) == ("1", "2207519642")
    assert values["3"] == ("1056768" if all_registers else "<unavailable>")
    assert values["4"] == "<unavailable>"
    assert values["5"] == "2207519642"
    assert (values["6"], values["7"]) == ("3", "1")
    assert re.match(r"\(void \(\*\)\(\)\) 0x\w+ <fib\+1>", values["8"])
    assert "Found trace frame 7, tracepoint 2" in text


def test_a_trace_that_the_target_has_saved_is_as_gdbs_own(gdb: TracingGdb, guest: Callable[[str], Path]) -> None:
    """`tsave -r` puts it among the files that a debugger can fetch."""
    gdb(f"""
tvariable $calls = 3
trace main.c:18 if got != 0
actions
collect $regs, checks, got, $calls
end
trace fib if n == 3
actions
collect n
while-stepping 2
collect $rip
end
end
passcount 2 2
{TO_THE_END}
tstart
continue
tsave -r /dbgvmm/traces/one
remote get /dbgvmm/traces/one {gdb.directory / "ours"}
tsave {gdb.directory / "gdbs"}
""")
    ours, gdbs = (
        read_without_target(
            guest(GUEST).with_suffix(".elf64"), f"target tfile {gdb.directory / name}", "tstatus", "info tracepoints",
            "tfind tracepoint 1", "tdump", "tfind tracepoint 2", "tdump", "tfind", "tdump", "info tvariables",
        )
        for name in ("ours", "gdbs")
    )  # fmt: skip
    assert ours == gdbs
    assert "collect n" in ours
    assert "$calls = 3" in ours


def test_tracing_goes_on_without_gdb_and_is_found_again(gdb: TracingGdb) -> None:
    text = gdb(f"""
tvariable $calls = 7
trace main.c:18
actions
collect got, $calls
end
set disconnected-tracing on
tstart
disconnect
target remote {gdb.directory / "gdb"}
tstatus
info tracepoints
info tvariables
hbreak main.c:18
continue
tstop
tfind start
tdump
""", name="cpubound")  # fmt: skip
    assert "Trace is already running on the target." in text
    assert "Assuming tracepoint 1 is same as target's tracepoint 1" in text
    assert "Trace will continue if GDB disconnects." in text
    assert re.search(r"\$calls +7 +7", text)
    assert "Found trace frame 0, tracepoint 1" in text
    assert "got = " in text and "$calls = 7" in text


def test_a_second_gdb_gets_all_definitions_from_the_target(gdb: TracingGdb) -> None:
    text = gdb(f"""
trace main.c:18 if got != 0
actions
collect got
while-stepping 2
collect $rip
end
end
passcount 3
set disconnected-tracing on
tstart
disconnect
delete
target remote {gdb.directory / "gdb"}
info tracepoints
""", name="cpubound")  # fmt: skip
    assert "Created tracepoint 2 for target's tracepoint 1" in text
    listing = text.rpartition("Num ")[2]
    for part in ("trace only if got != 0", "collect got", "while-stepping 2", "collect $rip", "pass count 3", "main.c:18"):
        assert part in listing


def test_without_disconnected_tracing_the_run_ends_with_gdb(gdb: TracingGdb) -> None:
    text = gdb(f"""
trace main.c:18
tstart
disconnect
target remote {gdb.directory / "gdb"}
tstatus
""", name="cpubound")  # fmt: skip
    assert "Trace stopped because of disconnection." in text
