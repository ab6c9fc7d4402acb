"""A profile: what was sampled, with names. What every export is made from.

`profile_of` makes one out of a sampler's samples. Names are looked up now, not when a sample is taken: so symbols that
are loaded later serve all samples, and sampling is cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from dbgvmm.profile.samples import Cost, StackKey
from dbgvmm.profile.sampling import Sampler

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

FrameKind = Literal["task", "user", "kernel", "monitor"]
_KERNEL_HALF: Final = 1 << 63
_USER_CPL: Final = 3
_PAGE: Final = ~0xFFF


class Frame(NamedTuple):
    """One level of a stack: a function's name, or what it all belongs to ("task"), or what the monitor did ("monitor")."""

    name: str
    kind: FrameKind


@dataclass(frozen=True)
class ProfileStack:
    """A stack and its cost. frames, addresses: outermost first; a task's address is 0.

    task: whose it is, "" if nobody knows. monitor_ns: the host's nanoseconds that the monitor took, by mechanism.
    """

    frames: tuple[Frame, ...]
    addresses: tuple[int, ...]
    task: str
    samples: int
    instructions: int
    monitor_ns: dict[str, int]


@dataclass(frozen=True)
class Profile:
    """All stacks with their costs.

    order: for each sample in the order of time, the index of its stack and the guest instructions it stands for.
    period: instructions from sample to sample, on average. without_order, without_stack: samples for which memory did not
    suffice; their costs are in `stacks`.
    """

    stacks: tuple[ProfileStack, ...]
    order: tuple[tuple[int, int], ...]
    period: int
    ns_per_instruction: Fraction
    without_order: int = 0
    without_stack: int = 0

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(stack.samples for stack in self.stacks)

    @property
    def instructions(self) -> int:
        """Guest instructions that were executed while sampling was on."""
        return sum(stack.instructions for stack in self.stacks)

    @property
    def monitor_ns(self) -> dict[str, int]:
        """Host nanoseconds of the monitor, by mechanism, most first."""
        total = Cost()
        for stack in self.stacks:
            total.add(Cost(0, 0, stack.monitor_ns))
        return dict(sorted(total.monitor_ns.items(), key=lambda item: (-item[1], item[0])))

    def guest_ns(self, instructions: int) -> int:
        """Instructions as nanoseconds of guest time."""
        return int(instructions * self.ns_per_instruction)


class SymbolNames(Protocol):
    """What knows names: `dbgvmm.debug.symbols.Symbols`."""

    def describe(self, address: int, cr3: int | None = None) -> str:
        """ "name+0x10", "name", or ""; cr3: in which address space."""


class Naming:
    """Names of functions, looked up once. A place without a symbol is named by its page."""

    def __init__(self, symbols: SymbolNames) -> None:
        self._symbols = symbols
        self._known: dict[tuple[int, int], str] = {}

    def name(self, address: int, cr3: int, returns_to: bool) -> str:
        """The function at `address`; of a return address, the one that the call in front of it is in."""
        place = address - 1 if returns_to and address else address
        key = place, 0 if place >= _KERNEL_HALF else cr3
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._look_up(place, cr3)
        return found

    def _look_up(self, address: int, cr3: int) -> str:
        described = self._symbols.describe(address, cr3)
        name, plus, offset = described.rpartition("+0x")
        return (name if plus and offset else described) or f"[{address & _PAGE:#x} page]"


def profile_of(sampler: Sampler, symbols: SymbolNames, ns_per_instruction: Fraction) -> Profile:
    """What the sampler has, and what has passed since its last sample."""
    samples = sampler.samples
    keys, costs = list(samples.keys), samples.costs()
    order = list(zip(samples.order, samples.order_instructions, strict=True))
    tail = sampler.tail()
    if tail is not None:
        order.append((len(keys), tail.instructions))
        keys.append(tail.key)
        costs.append(Cost(1, tail.instructions, tail.monitor_ns))
    build = _Builder(Naming(symbols), keys)
    stacks = tuple(build.stack(key, cost) for key, cost in zip(keys, costs, strict=True))
    return Profile(
        stacks, tuple(order), sampler.period, ns_per_instruction, samples.without_order, samples.without_stack
    )


def machine_profile(machine: Machine) -> Profile:
    """What a machine's sampler has."""
    return profile_of(machine.sampler, machine.symbols, machine.config.ns_per_insn)


class _Builder:
    """Makes stacks with names out of those with addresses."""

    def __init__(self, naming: Naming, keys: list[StackKey]) -> None:
        self._naming = naming
        spaces = {key.cr3 for key in keys if key.task is None and _user_part(key) < len(key.addresses)}
        self._tell_spaces_apart = len(spaces) > 1

    def stack(self, key: StackKey, cost: Cost) -> ProfileStack:
        frames: list[Frame] = []
        user_from = _user_part(key)
        for at, address in enumerate(key.addresses):
            kind: FrameKind = "user" if at >= user_from else "kernel"
            frames.append(Frame(self._naming.name(address, key.cr3, at not in (0, user_from)), kind))
        addresses = list(key.addresses)
        if not frames:
            frames.append(Frame("[no room for more stacks]", "task"))
            addresses.append(0)
        task = self._task(key, user_from < len(key.addresses))
        if task:
            frames.append(Frame(task, "task"))
            addresses.append(0)
        return ProfileStack(
            tuple(reversed(frames)), tuple(reversed(addresses)), task, cost.samples, cost.instructions, cost.monitor_ns
        )

    def _task(self, key: StackKey, has_user: bool) -> str:
        if key.task is not None:
            number, name = key.task
            return f"{name}-{number}"
        return f"address space {key.cr3:#x}" if has_user and self._tell_spaces_apart else ""


def _user_part(key: StackKey) -> int:
    """The index of the first address that is the user's: the innermost one, or the one that was interrupted.

    Where the kernel lives in the lower half as its user does, nothing tells which of the return addresses are whose.
    """
    addresses = key.addresses
    if key.cpl == _USER_CPL:
        return 0
    if not addresses or addresses[0] < _KERNEL_HALF:
        return len(addresses)
    return next((at for at, address in enumerate(addresses) if address < _KERNEL_HALF), len(addresses))


@dataclass(frozen=True)
class FunctionCost:
    """A function's part: on its own (`self_...`: it was innermost), and with all that it has called (`total_...`).

    self_monitor_ns: the monitor's nanoseconds while it was innermost.
    """

    name: str
    kind: FrameKind
    self_samples: int
    self_instructions: int
    total_instructions: int
    self_monitor_ns: int


def function_costs(profile: Profile) -> list[FunctionCost]:
    """Functions by what they cost themselves, most first. One that is several times in a stack counts once in its total."""
    totals: dict[Frame, int] = {}
    own: dict[Frame, list[int]] = {}
    for stack in profile.stacks:
        for frame in dict.fromkeys(stack.frames):
            totals[frame] = totals.get(frame, 0) + stack.instructions
        cost = own.setdefault(stack.frames[-1], [0, 0, 0])
        cost[0] += stack.samples
        cost[1] += stack.instructions
        cost[2] += sum(stack.monitor_ns.values())
    costs = [
        FunctionCost(frame.name, frame.kind, samples, instructions, total, monitor_ns)
        for frame, total in totals.items()
        if frame.kind != "task"
        for samples, instructions, monitor_ns in (own.get(frame, [0, 0, 0]),)
    ]
    return sorted(costs, key=lambda cost: (-cost.self_instructions, -cost.total_instructions, cost.name, cost.kind))


Measure = Literal["guest", "monitor"]
"""What a picture's widths or a list's numbers mean: guest instructions, or nanoseconds of the monitor."""


def weighed(profile: Profile, measure: Measure) -> list[tuple[tuple[Frame, ...], int]]:
    """Stacks with names and what each weighs, equal ones joined, in the order in which they were first met.

    For "monitor", the mechanism is the innermost frame.
    """
    weights: dict[tuple[Frame, ...], int] = {}
    for stack in profile.stacks:
        if measure == "guest":
            weights[stack.frames] = weights.get(stack.frames, 0) + stack.instructions
            continue
        for mechanism, ns in sorted(stack.monitor_ns.items()):
            frames = *stack.frames, monitor_frame(mechanism)
            weights[frames] = weights.get(frames, 0) + ns
    return [(frames, weight) for frames, weight in weights.items() if weight > 0]


def monitor_frame(mechanism: str) -> Frame:
    """The frame that stands for what the monitor did."""
    return Frame(f"[vmm] {mechanism}", "monitor")


ProfileWriter = Callable[[Profile], bytes]

__all__ = [
    "Frame", "FrameKind", "FunctionCost", "Measure", "Naming", "Profile", "ProfileStack", "ProfileWriter", "SymbolNames",
    "function_costs", "machine_profile", "monitor_frame", "profile_of", "weighed",
]  # fmt: skip
