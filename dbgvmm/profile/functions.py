"""Execution counts by function, and who called whom how often.

A function is what a symbol covers; code without one is grouped by page. Exact are: the instructions of a function, the
executions of its first instruction, and each call or direct jump to it, by call site; of calls through pointers the first
few targets of each site are told apart. Where indirect jumps went is not counted, so arrivals that nothing here explains
(jumps through pointers, exceptions, loops whose head is the first instruction) are one number for each function.

Inclusive costs are apportioned as gprof does (Graham, Kessler, McKusick, "gprof: a call graph execution profiler",
SIGPLAN 1982): a call is taken to cost what calls of that function cost on average. Within a cycle of functions that call
each other nothing is passed on, so nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from iced_x86 import FlowControl

from dbgvmm.hardware.layout import PAGE_SHIFT, PAGE_SIZE
from dbgvmm.profile.counts import UNKNOWN, ExecutionCounts, InstructionKey
from dbgvmm.profile.cycles import cycles_of


class NamedRange(Protocol):
    """A symbol: its name, and the addresses from `address` to before `end`."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> int: ...
    @property
    def end(self) -> int: ...


class Names(Protocol):
    """What knows symbols (`Machine.symbols`)."""

    def at(self, address: int) -> tuple[NamedRange, int] | None:
        """The symbol that covers an address, and the offset into it."""


class FunctionKey(NamedTuple):
    """A function: where it begins, and whether it was run at CPL 3."""

    address: int
    user: bool


@dataclass
class FunctionCount:
    """What a function did.

    instructions: retired in it. arrivals: executions of its first instruction. called: by calls; jumped: by direct
    unconditional jumps out of other functions (tail calls). loops: it may branch back to its own first instruction, so
    that arrivals are more than calls. inclusive: with what it called, apportioned.
    """

    name: str
    address: int
    user: bool
    named: bool
    instructions: int = 0
    arrivals: int = 0
    called: int = 0
    jumped: int = 0
    loops: bool = False
    inclusive: float = 0.0

    @property
    def key(self) -> FunctionKey:
        """What it is known by."""
        return FunctionKey(self.address, self.user)

    @property
    def otherwise(self) -> int:
        """Arrivals that no call and no direct jump from elsewhere explains."""
        return max(self.arrivals - self.called - self.jumped, 0)


@dataclass(frozen=True, order=True)
class CallArc:
    """Calls (or tail calls, which are direct jumps) from one site to one address, and how often. indirect: by a pointer."""

    caller: FunctionKey
    callee: FunctionKey
    site: int
    target: int
    times: int
    tail: bool
    indirect: bool = False


@dataclass
class FunctionProfile:
    """All functions that ran, and the calls between them.

    code: executions by function and linear address. elsewhere: calls through pointers whose targets are not known, by
    function and site. total: instructions.
    """

    functions: dict[FunctionKey, FunctionCount]
    code: dict[FunctionKey, dict[int, int]]
    arcs: list[CallArc]
    elsewhere: dict[tuple[FunctionKey, int], int]
    total: int
    _share: dict[FunctionKey, float] = field(default_factory=dict)
    _cycle: dict[FunctionKey, int] = field(default_factory=dict)

    def inclusive_of(self, arc: CallArc) -> float:
        """Instructions that the calls of an arc led to; 0 within a cycle."""
        if self._cycle[arc.caller] == self._cycle[arc.callee]:
            return 0.0
        return self._share[arc.callee] * arc.times

    def ranked(self) -> list[FunctionCount]:
        """The one in which most instructions retired first."""
        return sorted(self.functions.values(), key=lambda item: (-item.instructions, item.address, item.user))


def function_profile(counts: ExecutionCounts, names: Names) -> FunctionProfile:
    """The snapshot by functions; of a linear address all frames together, for a symbol is about linear addresses."""
    builder = _Builder(names)
    for item, times in counts.instructions.items():
        builder.add(item, times)
    return builder.finish(counts)


class _Branch(NamedTuple):
    """Executions of a direct branch that a function has."""

    function: FunctionKey
    site: int
    target: int
    times: int
    call: bool
    conditional: bool


class _Builder:
    def __init__(self, names: Names) -> None:
        self._names = names
        self._functions: dict[FunctionKey, FunctionCount] = {}
        self._code: dict[FunctionKey, dict[int, int]] = {}
        self._known: list[tuple[int, int, str, bool]] = [(1, 0, "", False)]
        self._calls: dict[tuple[FunctionKey, int, int, bool, bool], int] = {}
        self._elsewhere: dict[tuple[FunctionKey, int], int] = {}
        self._branches: list[_Branch] = []

    def _range(self, address: int) -> tuple[int, int, str, bool]:
        start, end, name, named = self._known[-1]
        if start <= address < end:
            return start, end, name, named
        found = self._names.at(address)
        if found is not None:
            symbol, _ = found
            answer = symbol.address, max(symbol.end, address + 1), symbol.name, True
        else:
            page = address >> PAGE_SHIFT << PAGE_SHIFT
            answer = page, page + PAGE_SIZE, f"{page:#x}", False
        self._known[-1] = answer
        return answer

    def function(self, address: int, user: bool) -> FunctionCount:
        """The function that an address belongs to."""
        start, _, name, named = self._range(address)
        key = FunctionKey(start, user)
        found = self._functions.get(key)
        if found is None:
            found = self._functions[key] = FunctionCount(name, start, user, named)
            self._code[key] = {}
        return found

    def add(self, item: InstructionKey, times: int) -> None:
        """Executions of one instruction."""
        function = self.function(item.address, item.user)
        function.instructions += times
        code = self._code[function.key]
        code[item.address] = code.get(item.address, 0) + times
        if item.address == function.address:
            function.arrivals += times
        instruction = item.decode()
        flow = instruction.flow_control
        if flow == FlowControl.INDIRECT_CALL:
            at = function.key, item.address
            self._elsewhere[at] = self._elsewhere.get(at, 0) + times
        elif flow in (FlowControl.CALL, FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CONDITIONAL_BRANCH):
            target = instruction.near_branch_target
            call, conditional = flow == FlowControl.CALL, flow == FlowControl.CONDITIONAL_BRANCH
            if target:
                self._branches.append(_Branch(function.key, item.address, target, times, call, conditional))

    def finish(self, counts: ExecutionCounts) -> FunctionProfile:
        """Resolve the branches, now that all that ran is known, and pass costs on."""
        for branch in self._branches:
            caller, target = branch.function, branch.target
            start = self._range(target)[0]
            if not branch.call:
                if target == start == caller.address:
                    self._functions[caller].loops = True
                if branch.conditional or start == caller.address or target != start:
                    continue
            if counts.at(target, user=caller.user):
                key = caller, branch.site, target, not branch.call, False
                self._calls[key] = self._calls.get(key, 0) + branch.times
        self._add_indirect(counts)
        arcs = []
        for (caller, site, target, tail, indirect), times in self._calls.items():
            callee = self.function(target, caller.user)
            if target == callee.address and tail:
                callee.jumped += times
            elif target == callee.address:
                callee.called += times
            arcs.append(CallArc(caller, callee.key, site, target, times, tail, indirect))
        arcs.sort()
        elsewhere = {at: times for at, times in self._elsewhere.items() if times}
        profile = FunctionProfile(self._functions, self._code, arcs, elsewhere, counts.total)
        _apportion(profile)
        return profile

    def _add_indirect(self, counts: ExecutionCounts) -> None:
        for item, targets in counts.indirect_calls.items():
            caller = self.function(item.address, item.user).key
            for target, times in targets.items():
                if target != UNKNOWN and counts.at(target, user=item.user):
                    key = caller, item.address, target, False, True
                    self._calls[key] = self._calls.get(key, 0) + times
                    self._elsewhere[caller, item.address] -= times


def _apportion(profile: FunctionProfile) -> None:
    """Pass costs on from callees to callers, along the arcs, cycles as one."""
    functions = profile.functions
    outgoing: dict[FunctionKey, list[CallArc]] = {key: [] for key in functions}
    incoming: dict[FunctionKey, list[CallArc]] = {key: [] for key in functions}
    for arc in profile.arcs:
        outgoing[arc.caller].append(arc)
        incoming[arc.callee].append(arc)
    graph = {key: [arc.callee for arc in arcs] for key, arcs in outgoing.items()}
    for number, members in enumerate(cycles_of(graph)):
        for key in members:
            profile._cycle[key] = number
        cost = 0.0
        for key in members:
            passed = sum(map(profile.inclusive_of, outgoing[key]))
            functions[key].inclusive = functions[key].instructions + passed
            cost += functions[key].inclusive
        entered = sum(_entered(functions[key], incoming[key], members) for key in members)
        for key in members:
            profile._share[key] = cost / entered if entered else 0.0


def _entered(function: FunctionCount, incoming: Iterable[CallArc], members: Iterable[FunctionKey]) -> int:
    """How often a function was entered from outside its cycle."""
    own = frozenset(members)
    from_outside = sum(arc.times for arc in incoming if arc.caller not in own)
    return from_outside if function.loops else from_outside + function.otherwise


__all__ = ["CallArc", "FunctionCount", "FunctionKey", "FunctionProfile", "NamedRange", "Names", "function_profile"]
