"""A fuzzer for the gdb stub: bytes that a debugger would never send, guided by what they reach (`make fuzz`).

    python tests/fuzz/fuzz_stub.py TARGET SECONDS      TARGET: example (tests/gdbstub's machine) or machine (a real one)

An input is a stream of bytes as it is, or lines that are sent as packets with the right checksum, since hardly any stream
has one, or lines that are sent as `monitor` commands; its first byte says which. Whatever comes out of `Stub.feed` as an
exception is a bug, and so is a packet that takes seconds. libFuzzer writes the input that did it to a file named crash-* or
timeout-*; give it as a third argument to see it again.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS / "fuzz"), str(TESTS / "gdbstub")]

with atheris.instrument_imports(include=["gdbstub", "dbgvmm.debug", "dbgvmm.commands"]):
    from packet_samples import SAMPLES, all_samples
    from rsp_machine import Machine as ExampleMachine

    from dbgvmm import Machine, MachineConfig
    from dbgvmm.commands import Session, command_table
    from dbgvmm.commands.monitor import Monitor
    from dbgvmm.debug.gdb_target import GdbTarget
    from dbgvmm.debug.stops import Stop
    from gdbstub import State, Stub
    from gdbstub.framing import frame

_HELLO = TESTS.parent / "guests" / "build" / "hello.elf"
_INPUTS_PER_MACHINE = 64
_STEPS = 40
_PACKETS, _RAW, _COMMANDS = b"\x00", b"\x01", b"\x02"

Play = Callable[[bytes], None]


def stream_of(data: bytes) -> bytes:
    """What an input sends."""
    kind, lines = data[:1], data[1:].split(b"\n")
    if kind == _RAW:
        return data[1:]
    if kind == _COMMANDS:
        lines = [b"qRcmd," + line.hex().encode() for line in lines]
    return b"".join(frame(line, runs=False) for line in lines)


def void(_sent: bytes) -> None:
    """There is nobody to send it to."""


def play_example(data: bytes) -> None:
    """On a machine that is new each time."""
    machine = ExampleMachine(cpus=1 + len(data) % 2)
    stub = Stub(machine)
    for start in range(0, len(stream := stream_of(data)), 1000):
        stub.feed(stream[start : start + 1000])
        if stub.state is State.RUNNING and (reason := machine.run(20)) is not None:
            stub.report_stop(reason)
    stub.close()


class RealMachine:
    """`hello` in front of its kmain. Inputs may change it, so every few of them have one that is fresh."""

    def __init__(self) -> None:
        self._played = 0
        self._machine = self._booted()

    @staticmethod
    def _booted() -> Machine:
        machine = Machine(MachineConfig(memory=16 << 20))
        machine.boot(_HELLO)
        machine.breakpoints.add(0x106000)
        machine.run()
        machine.breakpoints.clear()
        return machine

    def play(self, data: bytes) -> None:
        """A debugger's connection."""
        self._played += 1
        if not self._played % _INPUTS_PER_MACHINE:
            del self._machine
            gc.collect()
            self._machine = self._booted()
        machine = self._machine
        session = Session(machine)

        def run_a_little(*, steps: int | None = None, max_count: int | None = None) -> Stop:
            """A guest that commands have changed may never stop by itself."""
            return machine.run(steps=_STEPS if steps is None else min(steps, _STEPS), max_count=max_count)

        session.run_with(run_a_little)
        target = GdbTarget(machine, Monitor(session, command_table()))
        target.note_stop(machine.last_stop)
        stub = Stub(target)
        target.show = lambda text: void(stub.console(text))
        for start in range(0, len(stream := stream_of(data)), 1000):
            stub.feed(stream[start : start + 1000])
            if stub.state is State.RUNNING:
                stub.report_stop(target.note_stop(machine.run(steps=_STEPS)))
        stub.close()
        target.let_go()
        for items in (machine.breakpoints, machine.watchpoints, machine.catchpoints, machine.physical_breakpoints):
            items.clear()


def main() -> None:
    """Seeds are the examples of all packets, alone and behind each other."""
    target, seconds, *given = sys.argv[1:]
    play = play_example if target == "example" else RealMachine().play
    if given:
        play(Path(given[0]).read_bytes())
        return
    with tempfile.TemporaryDirectory(prefix="dbgvmm-fuzz-") as directory:
        samples = all_samples()
        for number, sample in enumerate(samples):
            (Path(directory) / f"packet-{number}").write_bytes(_PACKETS + sample)
            (Path(directory) / f"raw-{number}").write_bytes(_RAW + frame(sample, runs=False))
        (Path(directory) / "all").write_bytes(_PACKETS + b"\n".join(samples))
        commands = [bytes.fromhex(sample.partition(b",")[2].decode()) for sample in SAMPLES["qRcmd"]]
        for number, command in enumerate(commands):
            (Path(directory) / f"command-{number}").write_bytes(_COMMANDS + command)
        options = [f"-max_total_time={seconds}", "-max_len=6000", "-timeout=20", "-rss_limit_mb=3000", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, directory], play)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
