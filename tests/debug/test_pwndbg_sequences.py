"""What pwndbg and gef do to a QEMU that they debug a kernel in, done to ours, and to QEMU for comparison.

How they find out that there is a QEMU, the ranges of `vmmap`, the walk of page tables through physical memory, the IDT out
of the monitor's registers, physical addresses of the monitor. The steps are theirs (pwndbg's aglib/qemu.py,
aglib/kernel/vmmap.py, aglib/kernel/paging.py; gef's qemu commands), and so are the forms that they expect.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from gdb_runs import GDB, QEMU, under_dbgvmm, under_qemu

pytestmark = pytest.mark.skipif(GDB is None, reason="gdb is not installed")
compared = pytest.mark.skipif(QEMU is None, reason="QEMU is not installed")

# Runs in gdb's own Python, as the tools do.
SCRIPT = r'''
import gdb, json, re

def packet(text):
    if hasattr(gdb, "RemoteTargetConnection"):
        return (gdb.selected_inferior().connection.send_packet(text) or b"").decode("latin-1")
    return re.search('received: "(.*)"', gdb.execute("maintenance packet " + text, to_string=True)).group(1)

def monitor(text):
    return gdb.execute("monitor " + text, to_string=True)

def word(address):
    return int.from_bytes(bytes(gdb.selected_inferior().read_memory(address, 8)), "little")

found = {}
found["is_qemu"] = "ENABLE=" in packet("Qqemu.sstepbits")
found["is_usermode"] = "Text=" in packet("qOffsets")
found["exec_file"] = "qXfer:exec-file:read" in packet("qSupported")
found["version"] = packet("qGDBServerVersion")

ranges = []
for line in monitor("info mem").splitlines():
    dash, space, last = line.index("-"), line.index(" "), line.rindex(" ")
    start, end, size = int(line[:dash], 16), int(line[dash + 1:space], 16), int(line[space + 1:last], 16)
    assert end - start == size or end == 1 << 48, line
    rights = line[last + 1:].strip()
    assert len(rights) == 3 and rights[1] == "r", line
    ranges.append([start, size, rights])
found["vmmap"] = ranges

cr3 = int(gdb.parse_and_eval("$cr3"))
rip = int(gdb.parse_and_eval("$rip")) & (1 << 64) - 1
found["cr3"] = [cr3, int(re.search("CR3=([0-9a-f]+)", monitor("info registers")).group(1), 16)]
found["registers"] = [int(gdb.parse_and_eval("$" + name)) & (1 << 64) - 1 for name in ("cr0", "cr4", "efer")]
found["idt_limit"] = int(re.search(r"IDT=\s*([0-9a-f]+) ([0-9a-f]+)", monitor("info registers")).group(2), 16)
idt = int(re.search(r"IDT=\s*([0-9a-f]+) ([0-9a-f]+)", monitor("info registers")).group(1), 16)
found["idt"] = idt

assert packet("Qqemu.PhyMemMode:1") == "OK"
found["mode"] = packet("qqemu.PhyMemMode")
gdb.execute("maintenance flush dcache")
walk, entry = [], cr3
for shift in (39, 30, 21, 12):
    entry = word((entry & 0xFFFFFFFFFF000) + 8 * (rip >> shift & 511))
    walk.append(entry)
    if shift < 39 and entry & 0x80:
        break
first = word((entry & 0xFFFFFFFFFF000) | rip & (1 << shift) - 1)
assert packet("Qqemu.PhyMemMode:0") == "OK"
gdb.execute("maintenance flush dcache")
found["pagewalk"] = walk
found["same_word"] = first == word(rip)

gpa = int(monitor("gva2gpa %#x" % rip).split(" ")[-1], 16)
found["gva2gpa"] = gpa
found["unmapped"] = monitor("gva2gpa 0x700000000000").strip()
found["xp"] = int(monitor("xp/1xg %#x" % gpa).split(":")[1], 16) == word(rip)
found["tlb"] = sorted(
    [int(line.split(":")[0], 16), int(line.split()[1], 16), line.split()[2]] for line in monitor("info tlb").splitlines()
)
regions, inside = [], False
for line in monitor("info mtree -f").splitlines():
    if "Root memory region: system" in line:
        inside = True
    elif inside and not line.strip():
        break
    elif inside and ", ram):" in line:
        regions.append([int(part, 16) for part in line.split()[0].split("-")])
found["ram_end"] = max(end for _, end in regions if end < 1 << 26)
print("FOUND " + json.dumps(found))
'''


def findings(run: Callable[..., str], kernel: Path, directory: Path, place: str) -> dict[str, Any]:
    directory.mkdir()
    script = directory / "tool.py"
    script.write_text(SCRIPT)
    text = run(kernel, directory / "gdb", f"hbreak {place}", "continue", f"source {script}")
    assert "FOUND " in text, text
    found: dict[str, Any] = json.loads(text.partition("FOUND ")[2].partition("\n")[0])
    return found


@pytest.fixture
def ours(guest: Callable[[str], Path], tmp_path: Path) -> dict[str, Any]:
    return findings(under_dbgvmm, guest("pagetables"), tmp_path / "dbgvmm", "verdict")


def test_the_tools_take_us_for_a_qemu_with_a_kernel(ours: dict[str, Any]) -> None:
    assert ours["is_qemu"] and not ours["is_usermode"] and ours["exec_file"]


def test_registers_memory_and_page_tables_fit_together(ours: dict[str, Any]) -> None:
    assert ours["cr3"][0] == ours["cr3"][1]
    assert ours["mode"] == "1"
    assert ours["same_word"] and ours["xp"]
    assert ours["idt_limit"] == 0xFFF and any(start <= ours["idt"] < start + size for start, size, _ in ours["vmmap"])
    assert len(ours["pagewalk"]) == 4 and all(entry & 1 for entry in ours["pagewalk"])


@compared
def test_the_tools_find_what_they_find_in_qemu(ours: dict[str, Any], guest: Callable[[str], Path], tmp_path: Path) -> None:
    theirs = findings(under_qemu, guest("pagetables"), tmp_path / "qemu", "verdict")
    assert theirs["is_qemu"] and not theirs["exec_file"]
    same = sorted(set(ours) - {"exec_file", "version"})
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
