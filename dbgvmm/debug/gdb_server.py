"""`GdbServer`: one debugger at a time on a socket, served by the thread that owns the machine.

    server = GdbServer(machine, "1234")
    machine.service = server.poll           # while the machine runs: ^C, a debugger that comes or goes
    while True:
        server.serve()                      # while it stands still: until the debugger resumes it, or without one
        stop = server.run(machine.run)
        if server.stopped_for_debugger(stop): continue
        server.report(stop)

A debugger that connects stops the machine; when it has detached, the machine runs on. One in non-stop mode may send packets
at any time: for these the machine is paused between two slices, which changes neither guest nor count, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from dbgvmm.debug.gdb_target import GdbTarget, MonitorCommand
from dbgvmm.debug.stops import Stop, StopKind
from gdbstub import Connected, Disconnected, Executed, Listener, Received, State, Step, StepRange, Stub, TransportEvent

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

_STEPS_BETWEEN_POLLS: Final = 256
_MORE_TO_COME: Final = 0.005
"""Seconds that a paused machine waits for the next packet: a debugger seldom sends one alone."""
_LOOK_AGAIN: Final = 0.25
"""Seconds. A signal that comes right before a wait does not end it: so no wait is endless."""
_LONGEST_PAUSE: Final = 0.05
"""Seconds after which it goes on although there are more packets."""
_TOLD: Final = frozenset((
    StopKind.TRIPLE_FAULT, StopKind.UNSUPPORTED, StopKind.HALT, StopKind.LIMIT, StopKind.CATCHPOINT, StopKind.SCRIPT,
    StopKind.SCRIPT_ERROR,
))  # fmt: skip
"""Stops that a signal alone does not explain: gdb is told in words."""
_REASONS: Final = {
    Connected: "a debugger connects",
    Received: "interrupted by the debugger",
    Disconnected: "the debugger let go",
}
_ACKNOWLEDGEMENTS: Final = b"+-"
_MONITOR: Final = b"qRcmd"
_COMMON: Final = frozenset((StopKind.BREAKPOINT, StopKind.WATCHPOINT))
"""Stops that may be at a monitor command's or a script's breakpoint, of which gdb knows nothing."""
_STUCK: Final = frozenset(
    (StopKind.TRIPLE_FAULT, StopKind.UNSUPPORTED, StopKind.LIMIT, StopKind.EXIT, StopKind.POWER_OFF, StopKind.RESET)
)
"""Stops after which running on is refused; a restart ends them."""


class RunFunction(Protocol):
    """Runs the machine as `Machine.run` does."""

    def __call__(self, *, steps: int | None = None) -> Stop: ...


class GdbServer:
    """Serves `machine` on `address` ("PORT", "HOST:PORT", "unix:PATH"). Raises gdbstub.TransportError.

    monitor: runs gdb's `monitor` commands. say: told in one line when a debugger comes or goes.
    """

    def __init__(
        self,
        machine: Machine,
        address: str,
        monitor: MonitorCommand | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._machine = machine
        self._monitor = monitor
        self._say = say or (lambda text: None)
        self._listener = Listener(address)
        self._target = GdbTarget(machine, monitor)
        self._stub: Stub | None = None
        self._early: list[TransportEvent] = []
        self._unsaid: list[str] | None = None
        self._stopped_machine = False
        self.killed = False

    @property
    def address(self) -> str:
        """Where it listens, as gdb's `target remote` takes it."""
        return self._listener.address

    @property
    def attached(self) -> bool:
        """A debugger is connected."""
        return self._stub is not None

    @property
    def runs_machine(self) -> bool:
        """A debugger is connected and has the machine run."""
        return self._stub is not None and self._stub.state is State.RUNNING

    @property
    def waits(self) -> bool:
        """There is something that `serve` has to do at once: an event is there, the machine is to run, or it was killed."""
        return bool(self._early) or self.runs_machine or self.killed

    def filenos(self) -> tuple[int, ...]:
        """Descriptors that become readable when `poll` or `serve` has something to do."""
        return self._listener.filenos()

    def close(self) -> None:
        """Stop listening, and let a debugger go."""
        self._leave()
        self._listener.close()

    # -- while the machine runs

    def poll(self) -> None:
        """See what the debugger wants; may request a stop. Only while the machine runs (it is `Machine.service`)."""
        for event in self._listener.poll(0.0):
            stub = self._stub
            if isinstance(event, Received) and stub is not None and stub.state is State.RUNNING and not stub.non_stop:
                self._listener.send(stub.feed(event.data))
                if self._has_let_go():
                    self._stop_machine("the debugger let go")
            elif isinstance(event, Received) and not event.data.strip(_ACKNOWLEDGEMENTS):
                pass  # gdb has lost patience with a monitor command that runs the machine, and waits again
            else:
                # Everything else changes breakpoints or looks at the state, which is exact only when it stands still.
                self._early.append(event)
                if isinstance(event, Received) and stub is not None and stub.non_stop:
                    self._stop_machine("the debugger asks")
                else:
                    self._stop_machine(_REASONS[type(event)])

    def _stop_machine(self, text: str) -> None:
        self._stopped_machine = True
        if self._machine.running:  # which it does not between the steps of a range
            self._machine.request_stop(text)

    def stopped_for_debugger(self, stop: Stop) -> bool:
        """Whether `stop` was only made so that a debugger can come or go: nothing to report, call `serve`."""
        asked, self._stopped_machine = self._stopped_machine, False
        return asked and stop.kind is StopKind.INTERRUPT

    # -- while it stands still

    def wait_for_debugger(self, seconds: float | None = None) -> bool:
        """Block until a debugger connects, for `seconds` at most (None: for ever). Whether one is there."""
        while self._stub is None:
            self._take_events(_LOOK_AGAIN if seconds is None else seconds)
            if seconds is not None:
                break
        return self.attached

    def serve_beside_a_prompt(self) -> bool:
        """Serve what needs neither the terminal nor a running machine, without waiting for more. Whether somebody has to call
        `serve` (with the terminal free): a debugger comes or goes, has a monitor command, or lets the machine run."""
        self._unsaid = self._unsaid or []
        while not self.waits and not self._unsaid:
            self._early = self._listener.poll(0.0)
            if not self._early:
                return False
            if all(isinstance(event, Received) and _MONITOR not in event.data for event in self._early):
                self._take_events(0.0)
        return True

    def serve(self, *, wait: bool = True) -> None:
        """Serve until the debugger resumes the machine, or has nothing more to ask of a machine that runs. Returns at once if
        there is none, or when it is gone. wait: False to return also when a machine that stands still has been served."""
        for text in self._unsaid or ():
            self._say(text)
        self._unsaid = None
        self._stopped_machine = False
        paused = self.runs_machine
        latest = monotonic() + _LONGEST_PAUSE
        self._take_events(0.0)
        while (stub := self._stub) is not None:
            if stub.state is not State.RUNNING:
                if not wait:
                    return
                self._take_events(_LOOK_AGAIN)
            elif not (paused and stub.non_stop and monotonic() < latest and self._take_events(_MORE_TO_COME)):
                return

    def _take_events(self, timeout: float) -> bool:
        """Whether there were any."""
        events = self._early or self._listener.poll(timeout)
        self._early = []
        for number, event in enumerate(events):
            self._take(event)
            if self._has_let_go():
                # A connection that has ended already makes room: then the listener's may be the next debugger's.
                self._leave(hang_up=not any(isinstance(later, Disconnected) for later in events[number:]))
        return bool(events)

    def _has_let_go(self) -> bool:
        return self._stub is not None and self._stub.state is State.DISCONNECTED

    def _take(self, event: TransportEvent) -> None:
        if isinstance(event, Received):  # as nearly all are: a case of `match` takes ten times as long
            if self._stub is not None:
                self._listener.send(self._stub.feed(event.data))
                self._stopped_machine = False  # a monitor command may have run it, until something came
            return
        match event:
            case Connected(peer):
                self._tell(f"gdb has connected from {peer}")
                self._target = GdbTarget(self._machine, self._monitor)
                self._target.note_stop(self._machine.last_stop)
                self._target.show = self._show
                self._stub = Stub(self._target)
                self._machine.breakpoints.owners.append(self._target)
            case Disconnected() if self._stub is not None:
                self._stub.close()

    def _tell(self, text: str) -> None:
        """Say it, or as soon as a prompt gives the terminal free."""
        if self._unsaid is None:
            self._say(text)
        else:
            self._unsaid.append(text)

    def _leave(self, *, hang_up: bool = True) -> None:
        """The debugger is gone: nothing of it may stay."""
        if self._stub is not None:
            self._stub = None
            self._machine.breakpoints.owners.remove(self._target)
            self._tell("gdb has let go")
            self._target.let_go()
            self.killed = self.killed or self._target.killed
            if hang_up:
                self._listener.disconnect()

    # -- running for it

    def run(self, run: RunFunction) -> Stop:
        """Run the machine as the debugger asked, or just run it if there is none."""
        if self._stub is None:
            return run()
        last = self._machine.last_stop
        if last is not None and last.kind in _STUCK:
            return last
        early = self._stop_before_running()
        if early is not None:
            return early
        target, modes = self._target, self._target.modes
        modes.watch()
        try:
            match target.action:
                case Step():
                    return self._step(run, max(target.resumed_at + 1 - self._machine.count, 0))
                case StepRange(start, end):
                    return self._run_range(run, start, end)
                case _:
                    return run()
        finally:
            modes.unwatch()

    def _stop_before_running(self) -> Stop | None:
        """A stop that is due without another instruction."""
        target, machine = self._target, self._machine
        early = target.modes.before_running()
        if early is not None:
            return early
        if target.interrupted or target.halting:
            return Stop(StopKind.INTERRUPT, "interrupted by the debugger")
        rip = machine.cpu.rip
        # Machine.run passes a breakpoint in front of which it begins. That is right where the debugger resumed it, but not
        # where it was paused on its way.
        if machine.count != target.resumed_at and rip in machine.breakpoints and machine.breakpoints.stops_at(rip):
            return _breakpoint(rip)
        return None

    def _step(self, run: RunFunction, steps: int = 1) -> Stop:
        """`steps` is 0 where the step's instruction, a HLT, has been executed and then there was a pause."""
        dispatcher = self._machine.dispatcher
        dispatcher.interrupts_held = not self._target.steps_take_interrupts
        try:
            return run(steps=steps)
        finally:
            dispatcher.interrupts_held = False

    def _run_range(self, run: RunFunction, start: int, end: int) -> Stop:
        machine = self._machine
        for done in count(1):
            stop = self._step(run)
            rip = machine.cpu.rip
            if stop.kind is not StopKind.STEP or not start <= rip < end:
                return stop
            if rip in machine.breakpoints:
                return _breakpoint(rip)
            if done % _STEPS_BETWEEN_POLLS == 0:
                self.poll()
            if self._target.interrupted or self._stopped_machine:
                return Stop(StopKind.INTERRUPT, "interrupted by the debugger")
        raise AssertionError("count() does not end")

    def _show(self, text: str) -> None:
        """Text of a breakpoint's or monitor's command, on gdb's console."""
        if self._stub is not None:
            self._listener.send(self._stub.console(text))

    def report(self, stop: Stop) -> None:
        """Tell the debugger, if there is one, of a stop."""
        reason = self._target.note_stop(stop)
        stub = self._stub
        if stub is not None:
            told = stop.kind in _TOLD or (stop.kind in _COMMON and not self._target.owns(stop))
            told = told and not isinstance(reason, Executed)
            note = stub.console(f"dbgvmm: {stop.text}\n") if told else b""
            self._listener.send(note + stub.report_stop(reason))


def _breakpoint(rip: int) -> Stop:
    return Stop(StopKind.BREAKPOINT, f"breakpoint at {rip:#x}", address=rip)
