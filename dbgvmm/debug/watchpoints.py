"""Watchpoints: stop behind the instruction that accessed a range of memory. Any length, any alignment, any number.

The guest's memory is not changed, and its own debug registers stay its own. How it is done is told in bt/watching.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from dbgvmm.bt.watching import Watch, WatchHit, Watching

MOST_BYTES: Final = 16 << 20
"""What one watchpoint may cover: each of its pages is traced by itself."""


Listener = Callable[[WatchHit], None]
"""Told of a hit, with the guest behind the instruction; it does not stop for that."""


class Watchpoints:
    """The watchpoints of a machine. Users are counted: gdb and the REPL may both want the same one.

    Listeners are told and do not stop the guest; their watches are no watchpoints to those who list them.
    """

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self._users: Counter[Watch] = Counter()
        self._listeners: dict[Watch, list[Listener]] = {}

    def add(self, watch: Watch) -> None:
        """Stop behind each access that `watch` describes. Raises ValueError if it covers more than MOST_BYTES."""
        _check(watch)
        self._users[watch] += 1
        self._apply()

    def remove(self, watch: Watch) -> bool:
        """Take one watchpoint away; False if there is none like it."""
        if not self._users[watch]:
            del self._users[watch]
            return False
        self._users[watch] -= 1
        if not self._users[watch]:
            del self._users[watch]
        self._apply()
        return True

    def clear(self) -> None:
        """Remove all."""
        self._users.clear()
        self._apply()

    def listen(self, watch: Watch, listener: Listener) -> None:
        """Tell `listener` of each access that `watch` describes. Raises ValueError if it covers more than MOST_BYTES."""
        _check(watch)
        self._listeners.setdefault(watch, []).append(listener)
        self._apply()

    def ignore(self, watch: Watch, listener: Listener) -> None:
        """Tell it no more. Raises ValueError if it is not told."""
        self._listeners.get(watch, []).remove(listener)
        if not self._listeners[watch]:
            del self._listeners[watch]
        self._apply()

    def tell(self, hits: tuple[WatchHit, ...]) -> WatchHit | None:
        """An instruction has hit these: tell the listeners. The first one at which the guest has to stop, if any."""
        for hit in hits:
            for listener in tuple(self._listeners.get(hit.watch, ())):
                listener(hit)
        return next((hit for hit in hits if hit.watch in self._users), None)

    def _apply(self) -> None:
        self._watching.set(dict.fromkeys((*self._users, *self._listeners)))

    def __contains__(self, watch: object) -> bool:
        return watch in self._users

    def __iter__(self) -> Iterator[Watch]:
        return iter(sorted(self._users, key=lambda watch: (watch.start, watch.length, watch.reads)))

    def __len__(self) -> int:
        return len(self._users)


def _check(watch: Watch) -> None:
    if watch.length > MOST_BYTES:
        raise ValueError(f"{watch.length:#x} bytes are more than one watchpoint can watch: at most {MOST_BYTES:#x}")


__all__ = ["MOST_BYTES", "Watch", "Watchpoints"]
