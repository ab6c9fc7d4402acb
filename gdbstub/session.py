"""What a stub remembers of one debugger's connection, and what packet functions may do with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from gdbstub.errors import RspError, TargetError
from gdbstub.stop import Exited, StopReason, Terminated
from gdbstub.target import DescribeThreads, ExpediteRegisters, RegisterBlock, Target, Threads
from gdbstub.threadid import ALL, ANY, ONLY_THREAD, ThreadId, ThreadSpec

# The longest packet body the stub takes, which `qSupported` tells the debugger, and the scale of its own replies.
PACKET_SIZE: Final = 0x10000


class State(Enum):
    """Where a session stands (all-stop mode)."""

    IDLE = auto()
    """The target stands still and the debugger may ask anything."""
    RUNNING = auto()
    """The target runs and the debugger waits for a stop reply; it may interrupt."""
    DISCONNECTED = auto()
    """The debugger has let go: close the connection. What comes in is ignored."""


@dataclass(frozen=True, slots=True)
class Enter:
    """A packet's outcome that changes the state; without a `reply`, none is sent (yet)."""

    state: State
    reply: bytes | None = None


Reply = bytes | Enter
OK: Final = b"OK"
UNSUPPORTED: Final = b""


@dataclass(slots=True)
class Session:
    """One debugger's connection. `emit` queues a packet ahead of the reply to the packet that is being served;
    `interrupt` does what the 0x03 byte does."""

    target: Target
    features: Sequence[str]
    emit: Callable[[bytes], None]
    interrupt: Callable[[], None]
    peer_features: dict[str, str] = field(default_factory=dict)
    no_ack: bool = False
    extended: bool = False
    in_monitor: bool = False
    after_monitor: bool = False
    """The last packet was a `monitor` command. gdb, which waits for two seconds at a time, sends `-` meanwhile: those come
    before the reply and do not ask for it again."""
    thread_suffixes: bool = False
    """Packets may end in `;thread:id;`."""
    steps_without_timer: bool = False
    """What `Qqemu.sstep` has been told, which only `qqemu.sstep` reads."""
    list_threads: bool = False
    """Stop replies name all threads."""
    chosen: ThreadId | None = None
    """The thread of registers and memory (`Hg`, or that of the last stop); None is any."""
    resume_spec: ThreadSpec = field(default_factory=lambda: ThreadSpec(ANY, ALL))
    """The threads of `c` and `s` (`Hc`)."""
    documents: dict[str, bytes] = field(default_factory=dict)
    """What a chunked `qXfer` read is in the middle of, so that all chunks are of one version."""
    open_files: dict[int, bytes] = field(default_factory=dict)
    """What `vFile:open` has opened: the whole files, as they were then."""
    threads_left: list[ThreadId] = field(default_factory=list)
    """What `qsThreadInfo` has still to send."""
    with_threads: Threads | None = field(init=False)
    with_details: DescribeThreads | None = field(init=False)
    with_expedited: ExpediteRegisters | None = field(init=False)
    with_block: RegisterBlock | None = field(init=False)
    """The target as what it implements, or None. Asking a protocol takes 10 us, which every stop reply would pay."""

    def __post_init__(self) -> None:
        target = self.target
        self.with_threads = target if isinstance(target, Threads) else None
        self.with_details = target if isinstance(target, DescribeThreads) else None
        self.with_expedited = target if isinstance(target, ExpediteRegisters) else None
        self.with_block = target if isinstance(target, RegisterBlock) else None


    def peer_has(self, feature: str) -> bool:
        """Whether the debugger announced `feature+`."""
        return self.peer_features.get(feature) == "+"

    @property
    def multiprocess(self) -> bool:
        """Whether thread-ids carry a process-id."""
        return self.peer_has("multiprocess")

    def threads(self) -> Sequence[ThreadId]:
        """The target's threads."""
        return (ONLY_THREAD,) if self.with_threads is None else self.with_threads.threads()

    def find_thread(self, spec: ThreadSpec) -> ThreadId:
        """The thread that `spec` names, or the current one if that will do; TargetError if there is none."""
        matching = [thread for thread in self.threads() if spec.matches(thread)]
        if not matching:
            raise TargetError("there is no such thread")
        return self.chosen if self.chosen in matching else matching[0]

    def thread(self) -> ThreadId:
        """The current thread for registers and memory; TargetError if it has ended."""
        spec = ThreadSpec() if self.chosen is None else ThreadSpec(self.chosen.pid, self.chosen.tid)
        return self.find_thread(spec)

    def encode_thread(self, thread: ThreadId) -> bytes:
        """`thread` as this debugger wants it."""
        return thread.encode(multiprocess=self.multiprocess)

    def note_stop(self, reason: StopReason) -> None:
        """A stop makes its thread the current one: the debugger takes that for granted."""
        self.chosen = None if isinstance(reason, Exited | Terminated) else reason.thread

    def error_reply(self, error: RspError, *, text_allowed: bool) -> bytes:
        """An error as text, where the packet or the debugger (`error-message+`, gdb 16) allows it."""
        return error.reply(as_text=text_allowed or self.peer_has("error-message"))
