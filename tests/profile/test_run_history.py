"""The history of a run: bounded, the same each time, and exact in its sums."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.bt.mechanisms import Mechanism
from dbgvmm.profile.console_lines import LONGEST, ConsoleLines
from dbgvmm.profile.history import RunHistory, RunRecord
from dbgvmm.profile.samples import Samples
from dbgvmm.profile.who_ran import who_ran

GuestPath = Callable[[str], Path]


def run(guest: GuestPath, name: str, period: int, most: int = 400) -> Machine:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest(name))
    machine.sampler.history = RunHistory(machine, most)
    machine.sampler.start(period)
    machine.run(max_count=2_000_000_000)
    return machine


def record(machine: Machine) -> RunRecord:
    assert machine.sampler.history is not None
    return machine.sampler.history.record()


@pytest.fixture(scope="module")
def pagetables(guest: GuestPath) -> Machine:
    return run(guest, "pagetables", 1_000, most=50)


def test_points_are_few_and_at_regular_distances(pagetables: Machine) -> None:
    counts = [point.count for point in record(pagetables).points]
    assert counts[0] == 0 and counts[-1] == pagetables.count
    assert 25 <= len(counts) <= 51
    distances = [later - earlier for earlier, later in pairwise(counts[:-1])]
    assert 16_000 - 1_000 <= min(distances) <= max(distances) <= 16_000 + 1_000, "700,000 instructions, doubled four times"


def test_what_is_between_the_points_is_all_that_there_was(pagetables: Machine) -> None:
    points = record(pagetables).points
    parts = [later - earlier for earlier, later in pairwise(points)]
    whole = points[-1] - points[0]
    assert sum(part.instructions for part in parts) == whole.instructions == pagetables.count
    assert sum(part.exits for part in parts) == whole.exits
    ledger = pagetables.dispatcher.ledger
    for mechanism in Mechanism:
        assert sum(part.count_of(mechanism) for part in parts) == whole.count_of(mechanism) == ledger.count_of(mechanism)
    assert sum(part.seconds for part in parts) == pytest.approx(pagetables.seconds_total)


def test_two_runs_have_the_same_history(guest: GuestPath, pagetables: Machine) -> None:
    def timeless(machine: Machine) -> tuple[object, ...]:
        kept = record(machine)
        points = [(point.count, point.ns, {key: times for key, (times, _) in point.cells.items()}) for point in kept.points]
        return points, kept.lines, kept.modes, kept.stretches

    assert timeless(run(guest, "pagetables", 1_000, most=50)) == timeless(pagetables)


def test_a_line_begins_with_the_instruction_that_sends_its_first_byte(guest: GuestPath, pagetables: Machine) -> None:
    lines = record(pagetables).lines
    assert [line.text for line in lines] == bytes(pagetables.serial_log).decode().split("\r\n")[:-1]
    line = lines[len(lines) // 2]
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("pagetables"))
    machine.run(max_count=line.count - 1)
    assert machine.serial_log.endswith(b"\n")
    machine.step()
    assert machine.serial_log.endswith(b"\n" + line.text[0].encode())
    assert line.ns == machine.clock.ns_at(line.count)


def test_the_way_into_long_mode_is_seen_at_its_instruction(guest: GuestPath, pagetables: Machine) -> None:
    first, second = record(pagetables).modes
    assert (first.count, first.text, second.text) == (0, "protected mode", "long mode")
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("pagetables"))
    machine.run(max_count=second.count - 1)
    assert not machine.cpu.long_mode_active
    machine.step()
    assert machine.cpu.long_mode_active


def test_every_sample_is_somebodys_and_in_its_interval(pagetables: Machine) -> None:
    kept = record(pagetables)
    runners = who_ran(pagetables.sampler.samples, kept)
    assert len(runners) > 3 and len({runner.name for runner in runners}) == len(runners)
    spans = [later.count - earlier.count for earlier, later in pairwise(kept.points)]
    sums = [sum(parts) for parts in zip(*(runner.kernel for runner in runners), strict=True)]
    assert sums[:-1] == spans[:-1], "points are at samples"
    assert sum(runner.instructions for runner in runners) == pagetables.sampler.samples.instructions
    all_of_it = who_ran(pagetables.sampler.samples, kept, pagetables.sampler.tail())
    assert sum(runner.instructions for runner in all_of_it) == pagetables.count


def test_what_was_not_sampled_is_nobodys(guest: GuestPath) -> None:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("cpubound-small"))
    sampler = machine.sampler
    sampler.start(2_000)
    machine.run(max_count=100_000)
    sampler.stop()
    machine.run(max_count=500_000)
    sampler.start(2_000)
    machine.run(max_count=600_000)
    sampler.stop()
    kept = record(machine)
    (runner,) = [each for each in who_ran(sampler.samples, kept) if each.instructions > 10_000]
    gap = [point.count for point in kept.points].index(100_000)
    assert kept.points[gap + 1].count == 500_000 and runner.kernel[gap] == 0
    assert sum(runner.kernel[gap:]) == 100_000
    assert not machine.serial.observers


def test_clear_forgets_all_of_it(guest: GuestPath) -> None:
    machine = run(guest, "hello", 200)
    machine.sampler.clear()
    kept = record(machine)
    assert [point.count for point in kept.points] == [machine.count] and not kept.lines
    assert [mode.text for mode in kept.modes] == ["long mode"]


def console(machine: Machine, data: bytes, at_once: int, most: int = 100) -> ConsoleLines:
    lines = ConsoleLines(machine, most)
    for at in range(0, len(data), at_once):
        lines.printed(data[at : at + at_once])
    return lines


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_lines_are_without_escape_sequences_and_of_any_bytes(at_once: int) -> None:
    data = b"\x1b[1;31mred\x1b[0m\r\n\r\n\x1b]0;title\x07plain\n\xff\xc3\xa9\n# "
    lines, dropped = console(Machine(MachineConfig(memory=4 << 20)), data, at_once).lines()
    assert [line.text for line in lines] == ["red", "plain", "\ufffdé", "#"] and not dropped


def test_there_is_room_for_the_first_and_the_newest_lines() -> None:
    machine = Machine(MachineConfig(memory=4 << 20))
    lines, dropped = console(machine, b"".join(b"%d\n" % number for number in range(100)), 7, most=10).lines()
    assert [line.text for line in lines] == ["0", "1", "2", "3", "4", "95", "96", "97", "98", "99"]
    assert dropped == 90
    (endless,), _ = console(machine, b"x" * 100_000, 1).lines()
    assert len(endless.text) == LONGEST


def test_a_runner_of_many_tasks_has_their_name_once() -> None:
    machine = Machine(MachineConfig(memory=4 << 20))
    history = RunHistory(machine)
    history.begin(100, 0)
    samples = Samples()
    for pid, name, cpl in ((1, "init", 3), (2, "sh", 3), (3, "sh", 0)):
        samples.add(((pid, name), 0x1000, cpl, (0x400000,)), 10, None)
    machine.dispatcher.set_limit(1_000, 30)
    runners = who_ran(samples, history.record())
    assert [(each.name, each.tasks, each.kernel, each.user) for each in runners] == [
        ("init-1", 1, (0,), (10,)), ("sh", 2, (10,), (10,))
    ]  # fmt: skip
