"""Our own guests pass on QEMU's TCG: what they check is true of a machine that is not ours."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GUESTS = Path(__file__).parents[2] / "guests"
BUILD = GUESTS / "build"

# isa-debug-exit makes QEMU leave with (value << 1) | 1.
EXIT_PASSED = 1

# Gives the guests' skips something to skip: what they check through CPUID first is not there.
WITHOUT_FEATURES = "max,-nx,-smep,-smap,-pdpe1gb,-pge,-fsgsbase"

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("qemu-system-x86_64", "gcc", "ld", "make")),
    reason="needs qemu-system-x86_64, gcc, binutils and make",
)


@pytest.fixture(scope="module", autouse=True)
def built_guests() -> Iterator[None]:
    """Builds the guests. The lock keeps parallel test workers from building into the same folder at once."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(["make", "-C", str(GUESTS)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    yield


def qemu_command(guest: str, cpu: str = "max", machine: str = "pc") -> list[str]:
    return [
        "qemu-system-x86_64",
        *("-M", machine),
        *("-cpu", cpu),
        *("-accel", "tcg"),
        *("-m", "32"),
        *("-kernel", str(BUILD / f"{guest}.elf")),
        *("-display", "none"),
        "-no-reboot",
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
    ]


def run_guest(guest: str, cpu: str = "max", machine: str = "pc") -> tuple[int, list[str]]:
    """Exit code and non-empty lines of serial output."""
    result = subprocess.run(
        [*qemu_command(guest, cpu, machine), "-serial", "stdio"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.returncode, [line for line in result.stdout.splitlines() if line.strip()]


def assert_passed(exit_code: int, lines: list[str]) -> None:
    failures = [line for line in lines if line.startswith("FAIL")]
    assert failures == [], lines[-5:]
    passed = sum(line.startswith("ok ") for line in lines)
    assert lines[-1] == f"PASS {passed} checks"
    assert passed > 0
    assert exit_code == EXIT_PASSED


@pytest.mark.parametrize("cpu", ["max", "Skylake-Client", WITHOUT_FEATURES])
@pytest.mark.parametrize("guest", ["selftest", "exceptions", "smc", "pagetables"])
def test_guest_passes(guest: str, cpu: str) -> None:
    assert_passed(*run_guest(guest, cpu))


@pytest.mark.parametrize("guest", ["selftest", "pagetables"])
def test_guest_passes_without_pci(guest: str) -> None:
    assert_passed(*run_guest(guest, machine="isapc"))


@pytest.mark.parametrize("guest", ["cpubound", "cpubound-small", "modes"])
def test_sums_are_what_they_have_to_be(guest: str) -> None:
    assert_passed(*run_guest(guest))


def test_missing_features_are_skipped_in_so_many_words() -> None:
    _, lines = run_guest("pagetables", WITHOUT_FEATURES)
    skipped = {line for line in lines if line.startswith("skip ")}
    assert {"skip NX (CPUID has none)", "skip SMAP (CPUID has none)", "skip global pages (CPUID has none)"} <= skipped


def test_present_features_are_not_skipped() -> None:
    _, lines = run_guest("pagetables", "max")
    skipped = [line for line in lines if line.startswith("skip ")]
    assert all("PCID" in line for line in skipped), skipped  # TCG 7.2 has no PCID


def test_hello_says_hello_and_halts(tmp_path: Path) -> None:
    serial = tmp_path / "serial"
    command = [*qemu_command("hello"), "-serial", f"file:{serial}", "-monitor", "stdio"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while not (serial.exists() and serial.read_text().endswith("\n")):
            assert time.monotonic() < deadline, "nothing came on the serial port"
            time.sleep(0.05)
        time.sleep(0.2)  # from the last byte to the halt it is a few instructions
        output, _ = process.communicate("info registers\nquit\n", timeout=20)
    finally:
        process.kill()
    assert serial.read_text().strip() == "Hello from long mode."
    assert "HLT=1" in output
    flags = re.search(r"RFL=([0-9a-f]+)", output)
    assert flags is not None and not int(flags[1], 16) & 0x200, "it halts with interrupts off"


def test_triplefault_ends_in_a_triple_fault(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [*qemu_command("triplefault"), "-serial", "stdio", "-d", "cpu_reset", "-D", str(log)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert result.stdout.split("\n")[0].strip() == "triplefault: the next instruction is the last"
    assert "FAIL" not in result.stdout
    assert "Triple fault" in log.read_text()


@pytest.mark.parametrize("guest", ["selftest", "exceptions", "smc", "pagetables"])
def test_gdb_twin_is_linked_in_the_higher_half(guest: str) -> None:
    symbols = subprocess.run(["nm", str(BUILD / f"{guest}.elf64")], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^ffffffff8[0-9a-f]{7} T kmain$", symbols, re.MULTILINE)


def test_a_failed_check_is_told_by_exit_code_and_verdict(tmp_path: Path) -> None:
    """A cpubound whose expected checksums are wrong: without this, nobody knows that the guests can fail at all."""
    copy = tmp_path / "guests"
    shutil.copytree(GUESTS, copy, ignore=shutil.ignore_patterns("build"))
    mix = copy / "cpubound" / "host.c"
    mix.write_text(mix.read_text().replace("mix_parts[i].run(), mix_parts[i].name)", "~mix_parts[i].run(), mix_parts[i].name)"))
    target = "build/cpubound-small.elf"
    subprocess.run(["make", "-C", str(copy), target], capture_output=True, check=True, env=os.environ)
    command = [part.replace(str(GUESTS), str(copy)) for part in qemu_command("cpubound-small")]
    result = subprocess.run([*command, "-serial", "stdio"], capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 3
    assert result.stdout.splitlines()[-1] == "FAIL 8 of 8 checks"
    assert re.search(r"^FAIL fib: got [0-9a-f]+ want [0-9a-f]+$", result.stdout, re.MULTILINE)
