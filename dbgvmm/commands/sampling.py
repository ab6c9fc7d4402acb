"""Sampled profiles: `sample start`, `sample stop`, `sample clear`, `sample save`, `info samples`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Count
from dbgvmm.commands.plural import several
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.profile.export import FormatName, UnknownFormat, exported, format_of
from dbgvmm.profile.profile import FunctionCost, Profile, function_costs, machine_profile
from dbgvmm.profile.sampling import DEFAULT_HZ, period_of

_FEW: Final = Count(20)


@dataclass(frozen=True)
class SamplerReport:
    """Whether it samples, how often (instructions from sample to sample, 0: it never did), and what it has.

    without_order, without_stack: samples for whose moment or stack there was no room; what they cost is counted.
    """

    running: bool
    period: int
    samples: int
    stacks: int
    instructions: int
    without_order: int
    without_stack: int

    def __str__(self) -> str:
        state = f"sampling, once in {self.period:,} instructions" if self.running else "not sampling"
        samples, stacks = several(self.samples, "sample"), several(self.stacks, "stack")
        text = f"{state}: {samples} of {stacks}, {self.instructions:,} instructions"
        if self.without_stack:
            text += f"; no room for the stacks of {self.without_stack:,}"
        if self.without_order:
            text += f"; no room for the order of {self.without_order:,}"
        return text


@dataclass(frozen=True)
class SamplesReport:
    """What was sampled: by whose code it was, by function, and the monitor's host nanoseconds by mechanism.

    `functions` has all of them, `shown` says how many are shown.
    """

    sampler: SamplerReport
    instructions_by_kind: dict[str, int]
    monitor_ns: dict[str, int]
    functions: tuple[FunctionCost, ...]
    shown: int

    def __str__(self) -> str:
        whole = self.sampler.instructions
        kinds = ", ".join(f"{kind} {_share(part, whole)}" for kind, part in self.instructions_by_kind.items())
        monitor = ", ".join(f"{name} {ns / 1e6:,.1f}" for name, ns in self.monitor_ns.items())
        rows = [
            (_share(cost.self_instructions, whole), _share(cost.total_instructions, whole), f"{cost.self_samples:,}",
             f"{cost.self_monitor_ns / 1e6:,.1f}", cost.kind, cost.name)
            for cost in self.functions[: self.shown]
        ]  # fmt: skip
        lines = [str(self.sampler), f"guest time: {kinds}"]
        if monitor:
            lines.append(f"monitor, ms of the host: {sum(self.monitor_ns.values()) / 1e6:,.1f} ({monitor})")
        header = ("self", "total", "samples", "VMM ms", "", "function")
        return "\n".join([*lines, "", columns(rows, header, right=(0, 1, 2, 3))])


@dataclass(frozen=True)
class SavedProfile:
    """A file that was written."""

    path: str
    format: str
    samples: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.samples:,} samples, {self.format}, {self.size:,} bytes"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "-"


def _state(session: Session) -> SamplerReport:
    sampler, samples = session.machine.sampler, session.machine.sampler.samples
    return SamplerReport(
        sampler.on, sampler.period, len(samples), len(samples.keys), samples.instructions, samples.without_order,
        samples.without_stack,
    )  # fmt: skip


def profile_of_session(session: Session) -> Profile:
    """What was sampled. Raises CommandError if that is nothing."""
    profile = machine_profile(session.machine)
    if not profile.stacks:
        raise CommandError("nothing was sampled: `sample start`, then let the guest run")
    return profile


@command("sample start")
def sample_start(session: Session, *, hz: Count | None = None, every: Count | None = None) -> SamplerReport:
    """Sample the guest's stack: HZ times in a second of guest time (1000), or once in EVERY instructions.

    What was sampled before is kept. The guest cannot notice, and the samples of two runs are the same. While it samples, what
    `report` shows over time is recorded too: exits, console lines, changes of the CPU's mode.

    For example:
        sample start
        sample start --every 10_000
    """
    if hz is not None and every is not None:
        raise CommandError("--hz and --every say the same thing: give one of them")
    try:
        period = int(every) if every is not None else period_of(hz or DEFAULT_HZ, session.machine.config.ns_per_insn)
        session.machine.sampler.start(period)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return _state(session)


@command("sample stop")
def sample_stop(session: Session) -> SamplerReport:
    """Sample no longer; what was sampled is kept.

    For example:
        sample stop
    """
    session.machine.sampler.stop()
    return _state(session)


@command("sample clear")
def sample_clear(session: Session) -> SamplerReport:
    """Forget what was sampled.

    For example:
        sample clear
    """
    session.machine.sampler.clear()
    return _state(session)


@command("info samples", aliases=("samples",))
def info_samples(session: Session, number: Count = _FEW) -> SamplesReport:
    """Show the NUMBER functions that most samples were in (20), and how kernel, user and monitor share.

    `self` is what a function has executed itself, `total` with all that it has called; both are shares of the guest
    instructions sampled. `VMM ms` is the host's time that the monitor took before samples in it.

    For example:
        info samples
        info samples 5 --json
    """
    profile = profile_of_session(session)
    costs = function_costs(profile)
    kinds: dict[str, int] = {}
    for cost in costs:
        kinds[cost.kind] = kinds.get(cost.kind, 0) + cost.self_instructions
    # With what has passed since the last sample, so that the parts are parts of the whole.
    whole = replace(_state(session), samples=profile.samples, stacks=len(profile.stacks), instructions=profile.instructions)
    return SamplesReport(whole, kinds, profile.monitor_ns, tuple(costs), number)


@command("sample save")
def sample_save(session: Session, file: Path, *, format: FormatName | None = None) -> SavedProfile:
    """Write what was sampled to FILE: as its name says, or in FORMAT.

    NAME.svg is a flame graph for a browser, NAME.folded are folded stacks (flamegraph.pl), NAME.json is for speedscope,
    NAME.pb.gz for pprof.

    For example:
        sample save boot.svg
        sample save boot.pb.gz
        sample save stacks.txt --format folded
    """
    profile = profile_of_session(session)
    try:
        name = format or format_of(file)
    except UnknownFormat as error:
        raise CommandError(str(error)) from error
    kernel = session.machine.kernel
    data = exported(profile, name, kernel.name if kernel is not None else "dbgvmm")
    try:
        file.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}: give another file") from error
    return SavedProfile(str(file), name, profile.samples, len(data))
