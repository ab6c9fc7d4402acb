"""What the command line says, checked: one clear message for everything that cannot be."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final, NoReturn

from dbgvmm.devices.serial_backend import SERIAL_HELP
from dbgvmm.exit_status import STATUS_MEANINGS, ExitStatus
from dbgvmm.hardware.layout import MONITOR_PA
from dbgvmm.version import VERSION

DEFAULT_GDB_ADDRESS: Final = "1234"
_MEMORY: Final = re.compile(r"(\d+)([KMGkmg])i?[Bb]?")
_SHIFTS: Final = {"K": 10, "M": 20, "G": 30}
_LEAST_MEMORY: Final = 4 << 20
_GDB_ADDRESS: Final = re.compile(r"\d+|unix:.+|(?:\[[^\]]+\]|[^:/\[\]]*):\d+")

_EPILOG: Final = f"""\
the serial line (--serial):
{"".join(f"  {line}" for line in SERIAL_HELP.splitlines(keepends=True))}
--gdb takes an address, a port or nothing: `--gdb=HOST:PORT`, `--gdb 1234`, `--gdb unix:/tmp/gdb.sock`. What follows
it and is no address is the kernel, as in `dbgvmm run --gdb vmlinux`.

exit status: the guest's own if it leaves through port f4h (isa-debug-exit), as QEMU's: (value << 1) | 1; else
{"".join(f"  {number:<4} {meaning}{chr(10)}" for number, meaning in STATUS_MEANINGS.items())}"""


class _Parser(argparse.ArgumentParser):
    """argparse with our exit status for bad usage, and one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitStatus.USAGE, f"{self.prog}: {message} (`{self.prog} --help` explains)\n")


def memory_size(text: str) -> int:
    """ "256M" as bytes. Raises argparse.ArgumentTypeError."""
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no memory size: give a number with K, M or G, for instance 256M")
    size = int(match[1]) << _SHIFTS[match[2].upper()]
    if size % 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a multiple of the page size, 4K")
    if not _LEAST_MEMORY <= size <= MONITOR_PA:
        raise argparse.ArgumentTypeError(
            f"{text!r} is out of range: from {_LEAST_MEMORY >> 20}M to {MONITOR_PA >> 30}G"
        )
    return size


def instruction_count(text: str) -> int:
    """ "1_000_000" as a number above 0. Raises argparse.ArgumentTypeError."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 0 < count < 1 << 62:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of instructions: give one above 0, for instance 1_000_000"
        )
    return count


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = _Parser(prog="dbgvmm", description="A debugging hypervisor for people who write operating systems.")
    parser.add_argument("--version", action="version", version=f"dbgvmm {VERSION}")
    commands = parser.add_subparsers(dest="action", required=True, metavar="{run,report,demo}", parser_class=_Parser)
    run = commands.add_parser(
        "run",
        help="boot a kernel",
        description="Boot KERNEL: a Linux bzImage, a Multiboot or PVH kernel, or a 64-bit ELF.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_run_arguments(run)
    report = commands.add_parser(
        "report",
        help="boot a kernel, and write a page with pictures of the run",
        description="Boot KERNEL as `dbgvmm run` does, sample it, and write one HTML file with pictures of the run at its end.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_run_arguments(report)
    report.add_argument("--output", "-o", type=Path, default=Path("report.html"), metavar="F.html", help="(report.html)")
    commands.add_parser("demo", help="show what gdb and the monitor's own commands can do, with a small guest")
    return parser


def _add_run_arguments(run: argparse.ArgumentParser) -> None:
    run.add_argument("kernel", type=Path, metavar="KERNEL")
    guest = run.add_argument_group("the machine")
    guest.add_argument("--initrd", type=Path, metavar="F", help="initial RAM disk, or Multiboot module")
    guest.add_argument("--append", default="", metavar="S", help="kernel command line")
    guest.add_argument("--memory", "-m", type=memory_size, default=256 << 20, metavar="SIZE", help="RAM (256M)")
    guest.add_argument("--serial", default="stdio", metavar="WHERE", help="the other end of COM1, see below (stdio)")
    guest.add_argument(
        "--on-reset", choices=("exit", "restart"), default="exit", help="what a reset by the guest does (exit)"
    )
    guest.add_argument("--max-insns", type=instruction_count, metavar="N", help="stop after N instructions")
    people = run.add_argument_group("debugging")
    people.add_argument(
        "--gdb", nargs="?", const=DEFAULT_GDB_ADDRESS, metavar="[HOST:]PORT|unix:PATH",
        help=f"serve gdb there; on 127.0.0.1 if no host is given, on port {DEFAULT_GDB_ADDRESS} if nothing is",
    )  # fmt: skip
    people.add_argument("--wait", action="store_true", help="do not run before gdb says continue")
    people.add_argument("--repl", action="store_true", help="begin with a prompt for commands")
    people.add_argument("--symbols", type=Path, metavar="FILE", help="an ELF file or a System.map (the kernel's own)")
    people.add_argument(
        "--command", "-x", dest="scripts", action="append", type=Path, metavar="FILE", help="run the commands in FILE first"
    )
    people.add_argument(
        "--execute", "-e", dest="scripts", action="append", type=str, metavar="COMMAND",
        help="run this command first; -x and -e may be repeated, and are run in their order",
    )  # fmt: skip
    people.add_argument("--batch", action="store_true", help="leave when the commands of -x and -e are done")
    people.add_argument(
        "--no-startup", dest="startup", action="store_false",
        help="do not run the commands in $XDG_CONFIG_HOME/dbgvmm/startup before the first prompt",
    )  # fmt: skip
    people.add_argument(
        "--script", type=Path, action="append", default=[], metavar="FILE.py",
        help="run a Python file first, several in turn; what follows `--` is its sys.argv (docs/scripting.md)",
    )  # fmt: skip
    people.add_argument(
        "--gdb-python", action="store_true", help="let gdb's `monitor py` and `monitor source` run Python, on the host"
    )
    people.add_argument("--stats", type=Path, metavar="FILE.json", help="write all counters there at the end")
    people.add_argument(
        "--count", type=Path, metavar="FILE",
        help="count executions, and save them there at the end: for lcov if it is *.info, as *.drcov, else for kcachegrind",
    )  # fmt: skip
    people.add_argument(
        "--sample", type=Path, metavar="FILE",
        help="sample the guest's stack, and save that there at the end: *.svg (a flame graph), *.folded, *.json, *.pb.gz",
    )  # fmt: skip
    people.add_argument(
        "--sample-every", type=instruction_count, metavar="N", help="instructions from sample to sample (1000 samples a second)"
    )
    monitor = run.add_argument_group("the monitor")
    monitor.add_argument(
        "--user", choices=("bt", "direct"), default="bt", help="run CPL-3 code translated or directly (bt)"
    )
    monitor.add_argument(
        "--validate", choices=("eager", "lazy"), default="eager",
        help="what a write to a page table does to its shadow: renew it at once, or drop it (eager)",
    )  # fmt: skip


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parse a command line. Exits with ExitStatus.USAGE and one line if it is wrong."""
    parser = build_parser()
    end = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(_settle_gdb(argv[:end]))
    options.arguments = argv[end + 1 :]
    if options.action != "demo" and options.wait and options.gdb is None:
        parser.error("--wait waits for gdb: add --gdb (with --repl alone nothing runs before you say so)")
    if options.arguments and not getattr(options, "script", None):
        parser.error("what follows -- is for a script: add --script FILE.py")
    return options


def _settle_gdb(argv: list[str]) -> list[str]:
    """`--gdb` takes the next word only if that is an address."""
    settled: list[str] = []
    for at, word in enumerate(argv):
        follower = argv[at + 1] if at + 1 < len(argv) else ""
        bare = word == "--gdb" and not _GDB_ADDRESS.fullmatch(follower)
        settled.append(f"--gdb={DEFAULT_GDB_ADDRESS}" if bare else word)
    return settled
