"""What a script hangs on a machine: `@machine.on_breakpoint(...)` and its kin, and `for hit in machine.run_until(...)`.

    @machine.on_breakpoint("kmain")
    def entered(hit: BreakpointHit) -> None:
        print(f"{hit.count}: kmain({hit.machine.registers.rdi:#x})")

    machine.run()

A handler is called with the guest standing still exactly there; then the guest goes on, unless the handler returns True or a
`Stop`: that ends `run`, with StopKind.SCRIPT or this stop. It may read and change everything, add and remove hooks (`remove`),
but not run the machine. What it raises leaves `run`, with the guest standing there. Hooks change neither the guest nor its
instruction count.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, cast

from dbgvmm.bt.probes import Probe
from dbgvmm.bt.watching import Watch, WatchHit
from dbgvmm.debug.address_space import InAddressSpace
from dbgvmm.debug.catchpoints import Catch, Caught, Event
from dbgvmm.debug.hits import (
    BreakpointHit,
    Cr3Hit,
    ExceptionHit,
    Hit,
    InterruptHit,
    MemoryHit,
    MsrHit,
    PortHit,
    SyscallHit,
    SyscallReturnHit,
)
from dbgvmm.debug.hooks import H, Hook
from dbgvmm.debug.stops import Stop, StopKind
from dbgvmm.debug.system_calls import SystemCall

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

Handler = Callable[[H], object]
Decorator = Callable[[Callable[[H], object]], Hook[H]]
Where = int | str
"""A linear address, or a symbol's name."""


class _Arrivals:
    """Observes arrivals at an address, of all address spaces or of one. Implements `CompiledCondition`."""

    def __init__(self, tell: Callable[[], None], space: InAddressSpace | None) -> None:
        self._tell = tell
        self._space = space
        self.probe: Probe | None = None if space is None else space.probe

    def __call__(self) -> None:
        if self._space is None or self._space():
            self._tell()


class Scriptable:
    """The part of `Machine` that calls scripts. Handlers get a `Hit` (debug/hits.py); decorators return a `Hook`."""

    @property
    def _machine(self) -> Machine:
        """This is a part of that class, and of no other."""
        return cast("Machine", self)

    def address_of(self, where: Where) -> int:
        """The address of a symbol; an address is its own. Raises LookupError for a name that nobody knows."""
        return where if isinstance(where, int) else self._machine.symbols[where].address

    # -- hooks

    def on_breakpoint(self, where: Where, *, cr3: int | None = None) -> Decorator[BreakpointHit]:
        """Call it in front of the instruction at `where`, in every address space or in that of one top-level table.

        Raises LookupError for an unknown symbol.
        """
        machine, address = self._machine, self.address_of(where)
        breakpoints = machine.breakpoints

        def decorate(handler: Handler[BreakpointHit]) -> Hook[BreakpointHit]:
            hook = Hook(handler, f"arrival at {where if isinstance(where, str) else hex(where)}")
            space = None if cr3 is None else InAddressSpace(machine.cpu, cr3)
            arrivals = _Arrivals(lambda: self._machine.hooks.note(hook, BreakpointHit(machine, machine.count, address)), space)
            breakpoints.add_observer(address, arrivals)
            return self._machine.hooks.add(hook, lambda: breakpoints.remove_observer(address, arrivals))

        return decorate

    def on_watch(
        self, where: Where, length: int = 8, kind: str = "write", *, physical: bool = False, cr3: int | None = None
    ) -> Decorator[MemoryHit]:
        """Call it behind each instruction that accesses any of `length` bytes; kind: "write", "read" or "access".

        A write counts whether it changes anything or not. Raises ValueError for another kind, and for no or too many bytes.
        """
        if kind not in ("write", "read", "access"):
            raise ValueError(f"{kind!r} is no kind of watchpoint: give write, read or access")
        watch = Watch(
            self.address_of(where), length, reads=kind != "write", writes=kind != "read", physical=physical, cr3=cr3
        )
        machine, watchpoints = self._machine, self._machine.watchpoints

        def decorate(handler: Handler[MemoryHit]) -> Hook[MemoryHit]:
            hook = Hook(handler, f"{kind} of {length} bytes at {where if isinstance(where, str) else hex(where)}")

            def listener(hit: WatchHit) -> None:
                self._machine.hooks.note(hook, MemoryHit(machine, machine.count, hit.rip, hit.watch, hit.address, hit.write))

            watchpoints.listen(watch, listener)
            return self._machine.hooks.add(hook, lambda: watchpoints.ignore(watch, listener))

        return decorate

    def on_port(self, port: int | None = None, *, reads: bool = True, writes: bool = True) -> Decorator[PortHit]:
        """Call it behind each access to an I/O port (None: any), string instructions' single ones included."""
        return self._on_event(
            Catch(Event.PORT, port, reads, writes),
            lambda caught: PortHit(*self._here(), caught.number, caught.size, caught.value, caught.write),
        )

    def on_msr(self, number: int | None = None, *, reads: bool = True, writes: bool = True) -> Decorator[MsrHit]:
        """Call it behind each RDMSR and WRMSR of an MSR (None: any) that did not fault."""
        return self._on_event(
            Catch(Event.MSR, number, reads, writes),
            lambda caught: MsrHit(*self._here(), caught.number, caught.value, caught.write),
        )

    def on_exception(self, vector: int | None = None) -> Decorator[ExceptionHit]:
        """Call it when an instruction raises an exception (None: any), before that is delivered.

        The instruction is tried again when the guest goes on: a handler that has mended the reason has prevented it.
        Software interrupts (INT n, INT3) are no exceptions here; a #DB trap has been delivered already.
        """

        def hit(caught: Caught) -> ExceptionHit:
            assert caught.fault is not None
            return ExceptionHit(*self._here(), caught.number, caught.fault.error_code, caught.fault.cr2)

        return self._on_event(Catch(Event.EXCEPTION, vector), hit)

    def on_interrupt(self, vector: int | None = None) -> Decorator[InterruptHit]:
        """Call it when an interrupt of a device (None: any) was taken, in front of its handler's first instruction."""
        return self._on_event(Catch(Event.INTERRUPT, vector), lambda caught: InterruptHit(*self._here(), caught.number))

    def on_cr3(self) -> Decorator[Cr3Hit]:
        """Call it behind each load of CR3, of the same value too."""
        return self._on_event(Catch(Event.CR3), lambda caught: Cr3Hit(*self._here(), caught.old, caught.value))

    def on_syscall(self, *numbers: int) -> Decorator[SyscallHit]:
        """Call it at each SYSCALL with one of these numbers (none: any), in front of the kernel's first instruction.

        User memory can still be read there: the address space is the caller's.
        """
        machine, calls = self._machine, self._machine.system_calls

        def decorate(handler: Handler[SyscallHit]) -> Hook[SyscallHit]:
            hook = Hook(handler, _numbered("system call", numbers))

            def entered(call: SystemCall) -> None:
                if not numbers or call.number in numbers:
                    self._machine.hooks.note(hook, SyscallHit(machine, call.count, machine.cpu.rip, call))

            calls.listen(entered)
            return self._machine.hooks.add(hook, lambda: calls.ignore(entered))

        return decorate

    def on_syscall_return(self, *numbers: int) -> Decorator[SyscallReturnHit]:
        """Call it when a system call with one of these numbers (none: any) has returned, behind the caller's SYSCALL.

        Only of calls that were made while the hook was there.
        """
        calls = self._machine.system_calls

        def decorate(handler: Handler[SyscallReturnHit]) -> Hook[SyscallReturnHit]:
            hook = Hook(handler, _numbered("return of system call", numbers))

            def returned(call: SystemCall, result: int) -> None:
                if not numbers or call.number in numbers:
                    self._machine.hooks.note(hook, SyscallReturnHit(*self._here(), call, result))

            calls.listen(on_return=returned)
            return self._machine.hooks.add(hook, lambda: calls.ignore(on_return=returned))

        return decorate

    def _here(self) -> tuple[Machine, int, int]:
        machine = self._machine
        return machine, machine.count, machine.cpu.rip

    def _on_event(self, catch: Catch, hit_of: Callable[[Caught], H]) -> Decorator[H]:
        catchpoints = self._machine.catchpoints
        what = catch.event.value if catch.number is None else f"{catch.event.value} {catch.number:#x}"

        def decorate(handler: Handler[H]) -> Hook[H]:
            hook = Hook(handler, what)

            def listener(caught: Caught) -> None:
                self._machine.hooks.note(hook, hit_of(caught))

            catchpoints.listen(catch, listener)
            return self._machine.hooks.add(hook, lambda: catchpoints.ignore(catch, listener))

        return decorate

    # -- iteration

    def run_until(
        self,
        *,
        breakpoints: Iterable[Where] = (),
        watches: Iterable[Watch] = (),
        ports: Iterable[int] = (),
        msrs: Iterable[int] = (),
        exceptions: Iterable[int] = (),
        interrupts: Iterable[int] = (),
        syscalls: Iterable[int] = (),
        syscall_returns: Iterable[int] = (),
        cr3: bool = False,
        max_count: int | None = None,
    ) -> Generator[Hit, None, None]:
        """Run, and give each of these events with the guest standing still there; the loop's next turn goes on.

        It ends at any other stop (`last_stop` says which), at the latest at the instruction count `max_count`. Between two
        turns the machine may be stepped or run, too. Raises LookupError for an unknown symbol, before anything runs.
        """
        found: list[Hit] = []

        def take(hit: Hit) -> Stop:
            found.append(hit)
            return Stop(StopKind.SCRIPT, str(hit))

        decorators: list[Callable[[Callable[[Hit], object]], Hook[Any]]] = [
            *(self.on_breakpoint(where) for where in breakpoints),
            *(
                self.on_watch(watch.start, watch.length, _kind(watch), physical=watch.physical, cr3=watch.cr3)
                for watch in watches
            ),
            *map(self.on_port, ports), *map(self.on_msr, msrs), *map(self.on_exception, exceptions),
            *map(self.on_interrupt, interrupts), *map(self.on_syscall, syscalls),
            *map(self.on_syscall_return, syscall_returns), *((self.on_cr3(),) if cr3 else ()),
        ]  # fmt: skip

        def give() -> Generator[Hit, None, None]:
            hooks = [decorate(take) for decorate in decorators]
            try:
                yield from self._give(found, max_count)
            finally:
                for hook in hooks:
                    hook.remove()

        return give()

    def _give(self, found: list[Hit], max_count: int | None) -> Generator[Hit, None, None]:
        machine = self._machine
        while True:
            stop = machine.run(max_count=max_count)
            hits, found[:] = found[:], []
            yield from hits
            if stop.kind is not StopKind.SCRIPT or not hits:
                return


def _kind(watch: Watch) -> str:
    return {(False, True): "write", (True, False): "read"}.get((watch.reads, watch.writes), "access")


def _numbered(what: str, numbers: Iterable[int]) -> str:
    return f"{what} {', '.join(map(str, numbers))}".rstrip()


__all__ = ["Decorator", "Handler", "Scriptable", "Where"]
