"""Hooks: functions of a script that are called with the guest stopped at an event, and after which it goes on.

Events are noted where they happen, in the middle of an exit; nothing of the script runs there. The machine then stops exactly
there, calls the handlers of what was noted, and runs on, unless somebody else wants it to stop too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbgvmm.debug.hits import Hit
from dbgvmm.debug.stops import Stop, StopKind

if TYPE_CHECKING:
    from dbgvmm.machine import Machine

H = TypeVar("H", bound=Hit)


class Hook(Generic[H]):
    """A handler and what it waits for. Calling it calls the handler.

    name: the handler's. what: the event in words. calls: how often the guest has stopped for it. `with hook:` removes it at the
    end.
    """

    def __init__(self, handler: Callable[[H], object], what: str) -> None:
        self.handler = handler
        self.name: str = getattr(handler, "__qualname__", type(handler).__name__)
        self.what = what
        self.calls = 0
        self._disarm: Callable[[], None] | None = None

    def arm(self, disarm: Callable[[], None]) -> None:
        """It is in place now; `disarm` takes it away."""
        self._disarm = disarm

    @property
    def active(self) -> bool:
        """It has not been removed."""
        return self._disarm is not None

    def remove(self) -> None:
        """Wait no more. May be called by its own handler, and twice."""
        disarm, self._disarm = self._disarm, None
        if disarm is not None:
            disarm()

    def __call__(self, hit: H) -> object:
        return self.handler(hit)

    def __enter__(self) -> Hook[H]:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Hook({self.name}, {self.calls} calls{'' if self.active else ', removed'})"


class Hooks:
    """The hooks of a machine: what was noted, and the calls."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.active: list[Hook[Any]] = []
        """Those that are in place, the oldest first."""
        self.noted: list[tuple[Hook[Hit], Hit]] = []
        self.calling = False
        """A handler runs: the machine must not."""
        self.failure: Exception | None = None
        """What a handler has raised last, for a front end that has to tell a script's errors from its own."""

    def add(self, hook: Hook[H], disarm: Callable[[], None]) -> Hook[H]:
        """`hook` is in place now; `disarm` takes it away."""

        def remove() -> None:
            self.active.remove(hook)
            disarm()

        hook.arm(remove)
        self.active.append(hook)
        return hook

    def note(self, hook: Hook[H], hit: H) -> None:
        """Have the machine stop here, and then call `hook`. Only while an exit is handled."""
        self.noted.append((hook, hit))  # type: ignore[arg-type]  # each hook is noted with hits of its own kind
        self._machine.dispatcher.stop_requested = True

    def call(self) -> Stop | None:
        """Call the handlers of what was noted, in its order; the stop that one of them wants.

        Raises what a handler raises: the ones behind it are not called.
        """
        noted, self.noted = self.noted, []
        asked: Stop | None = None
        with self._no_running():
            for hook, hit in noted:
                if not hook.active:
                    continue
                hook.calls += 1
                wanted = self._call_one(hook, hit)
                if asked is None and wanted is not False and wanted is not None:
                    asked = wanted if isinstance(wanted, Stop) else Stop(StopKind.SCRIPT, f"{hook.name} stopped: {hit}")
        return asked

    def _call_one(self, hook: Hook[Hit], hit: Hit) -> object:
        try:
            return hook.handler(hit)
        except Exception as error:
            self.failure = error
            raise

    @contextmanager
    def _no_running(self) -> Iterator[None]:
        self.calling = True
        try:
            yield
        finally:
            self.calling = False
