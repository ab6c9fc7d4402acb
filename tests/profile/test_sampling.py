"""The sampler: it changes nothing, loses nothing, and sees where the guest is."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.gdb import GdbSession
from dbgvmm.profile.profile import function_costs, machine_profile
from dbgvmm.profile.samples import Cost, Samples

PERIOD = 5_000
GuestPath = Callable[[str], Path]


def sampled(guest: GuestPath, name: str, period: int = PERIOD, **options: object) -> Machine:
    """A guest with its symbols that was sampled from its first instruction to its end."""
    machine = Machine(MachineConfig(memory=64 << 20, **options))  # type: ignore[arg-type]  # options vary by test
    machine.boot(guest(name))
    machine.symbols.add(load_symbols(guest(name).with_suffix(".elf64")))
    if period:
        machine.sampler.start(period)
    machine.run(max_count=2_000_000_000)
    return machine


@pytest.fixture(scope="module")
def cpubound(guest: GuestPath) -> Machine:
    return sampled(guest, "cpubound-small")


@pytest.mark.parametrize(
    ("name", "period"), [("cpubound-small", 1_000), ("selftest", 250), ("pagetables", 250), ("exceptions", 1_111), ("smc", 250)]
)
def test_a_sampled_guest_does_what_it_does_anyway(guest: GuestPath, name: str, period: int) -> None:
    with_samples, without = sampled(guest, name, period), sampled(guest, name, 0)
    assert with_samples.count == without.count
    assert with_samples.last_stop == without.last_stop
    assert with_samples.cpu.save() == without.cpu.save()
    assert with_samples.ram.bytes == without.ram.bytes
    assert with_samples.serial_log == without.serial_log


@pytest.mark.parametrize("options", [{"validate": "lazy"}, {"user": "direct"}])
def test_so_it_does_in_the_other_modes(guest: GuestPath, options: dict[str, object]) -> None:
    with_samples, without = sampled(guest, "selftest", 500, **options), sampled(guest, "selftest", 0, **options)
    assert (with_samples.count, with_samples.cpu.save()) == (without.count, without.cpu.save())
    assert with_samples.ram.bytes == without.ram.bytes


def test_sampling_leaves_nothing_in_the_translation_cache(guest: GuestPath, cpubound: Machine) -> None:
    without = sampled(guest, "cpubound-small", 0)
    assert cpubound.cache.stats()["translation_units"] == without.cache.stats()["translation_units"]
    assert cpubound.engine.exits - without.engine.exits <= len(cpubound.sampler.samples)


def test_two_runs_have_the_same_samples(guest: GuestPath) -> None:
    first, second = (sampled(guest, "pagetables", 500).sampler.samples for _ in range(2))
    assert first.keys == second.keys
    assert first.order == second.order
    assert first.order_instructions == second.order_instructions


@pytest.mark.parametrize("name", ["cpubound-small", "pagetables"])
def test_weights_add_up_to_the_instructions_that_were_executed(guest: GuestPath, name: str) -> None:
    machine = sampled(guest, name, 1_000)
    assert machine_profile(machine).instructions == machine.count
    machine.sampler.stop()
    assert machine.sampler.samples.instructions == machine.count


def test_there_is_one_sample_in_each_period(cpubound: Machine) -> None:
    samples = cpubound.sampler.samples
    assert abs(len(samples) - cpubound.count // PERIOD) <= 1
    assert max(samples.order_instructions) < 2 * PERIOD
    assert min(samples.order_instructions) > PERIOD // 2


def test_samples_agree_with_exact_counts(guest: GuestPath, cpubound: Machine) -> None:
    counted = Machine(MachineConfig(memory=64 << 20))
    counted.boot(guest("cpubound-small"))
    counted.counters.start()
    counted.run()
    exact: dict[str, int] = {}
    symbols = cpubound.symbols
    for key, times in counted.counters.counts().instructions.items():
        name = symbols.describe(key.address).split("+")[0]
        exact[name] = exact.get(name, 0) + times
    costs = {cost.name: cost.self_instructions for cost in function_costs(machine_profile(cpubound))}
    for name, times in exact.items():
        assert abs(costs.get(name, 0) - times) < 0.01 * cpubound.count, name


def test_most_samples_of_the_cpu_bound_guest_are_in_its_mix(cpubound: Machine) -> None:
    profile = machine_profile(cpubound)
    top = {cost.name for cost in function_costs(profile)[:8]}
    assert top >= {"run_crc_bitwise", "run_crc_table", "run_sort", "run_search", "run_list", "fib"}
    assert all(stack.frames[0].name in ("kernel_entry", "boot_entry32", "boot_entry64") for stack in profile.stacks)


def test_recursion_is_a_deep_stack(cpubound: Machine) -> None:
    stacks = [[frame.name for frame in stack.frames] for stack in machine_profile(cpubound).stacks]
    deep = [names for names in stacks if names[-1] == "fib"]
    assert deep and all(names[:3] == ["kernel_entry", "kmain", "run_fib"] for names in deep)
    assert max(names.count("fib") for names in deep) >= 15


def test_stacks_are_those_that_gdb_sees(guest: GuestPath) -> None:
    machine = sampled(guest, "cpubound-small", 100_003)
    symbols, samples = machine.symbols, machine.sampler.samples
    moments = list(accumulate(samples.order_instructions))
    stacks = [
        [symbols.describe(each - (level > 0)).split("+")[0] for level, each in enumerate(samples.keys[number].addresses)]
        for number in samples.order
    ]
    chosen = [at for at, names in enumerate(stacks) if names[0] == "fib"]  # gdb needs the prologue
    with GdbSession.run(guest("cpubound-small"), symbols=guest("cpubound-small").with_suffix(".elf64")) as gdb:
        gdb.break_at("kmain")
        gdb.continue_()  # into 64-bit code, and gdb knows
        for at in chosen[::5]:
            gdb.monitor(f"until #{moments[at]}")
            gdb.mi('-interpreter-exec console "maintenance flush register-cache"')
            functions = [frame.function for frame in gdb.backtrace() if symbols.find(frame.function)]
            # gdb ends at run_fib, which sets its frame up late; so compare what it has.
            assert len(functions) > 8
            assert stacks[at][: len(functions)] == functions


def test_interrupted_user_code_is_below_the_kernel_in_one_stack(guest: GuestPath) -> None:
    profile = machine_profile(sampled(guest, "selftest", 250))
    kinds = {tuple(dict.fromkeys(frame.kind for frame in stack.frames)) for stack in profile.stacks}
    assert ("user",) in kinds and ("kernel",) in kinds
    assert ("user", "kernel") in kinds


def test_the_monitors_time_is_told_apart_by_mechanism(cpubound: Machine) -> None:
    monitor = machine_profile(cpubound).monitor_ns
    assert {"translation", "port", "step"} <= set(monitor)
    assert "sample" not in monitor
    assert 0 < sum(monitor.values()) < cpubound.seconds_total * 1e9


def test_a_loop_whose_length_divides_the_period_is_met_everywhere(cpubound: Machine) -> None:
    moments = list(accumulate(cpubound.sampler.samples.order_instructions))
    phases = Counter(moment % 50 for moment in moments)
    assert len(phases) == 50
    assert max(phases.values()) < 2 * len(moments) / 50


def test_switching_on_and_off_keeps_what_was_sampled(guest: GuestPath) -> None:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("cpubound-small"))
    machine.run(max_count=1_000_000)
    machine.sampler.start(1_000)
    machine.run(max_count=2_000_000)
    machine.sampler.stop()
    machine.run(max_count=3_000_000)
    assert machine.sampler.samples.instructions == 1_000_000
    machine.sampler.start(10_000)
    machine.run(max_count=4_000_000)
    assert machine_profile(machine).instructions == 2_000_000
    machine.sampler.clear()
    assert not machine_profile(machine).stacks


def test_a_restart_goes_on_being_sampled(guest: GuestPath) -> None:
    machine = sampled(guest, "hello", 1_000)
    machine.restart()
    machine.run()
    assert machine_profile(machine).instructions == machine.count


def test_what_has_no_room_is_counted() -> None:
    samples = Samples(max_stacks=2, max_ordered=3)
    for at in range(5):
        samples.add((None, 0, 0, (at,)), 10, {"port": 7})
    assert len(samples.keys) == 3 and len(samples.order) == 3
    assert (samples.without_stack, samples.without_order) == (3, 2)
    assert (len(samples), samples.instructions) == (5, 50)
    assert samples.costs()[2] == Cost(3, 30, {"port": 21})


def test_an_unreachable_stack_is_a_short_one(guest: GuestPath) -> None:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("cpubound-small"))
    machine.sampler.start(1_000)
    machine.run(max_count=2_000_000)
    machine.cpu.gpr[4] = machine.cpu.gpr[5] = 0xDEAD_0000_0000_0001
    assert machine.sampler.walk() == (machine.cpu.rip,)
    tail = machine.sampler.tail()
    assert tail is not None and tail.key.addresses == (machine.cpu.rip,)


def test_nothing_is_imported_for_sampling_before_it_is_asked_for() -> None:
    code = "import sys, dbgvmm; dbgvmm.Machine(); print('dbgvmm.profile.sampling' in sys.modules, 'google' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
