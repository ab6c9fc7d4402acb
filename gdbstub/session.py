"""What a stub remembers of one debugger's connection, and what packet functions may do with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from gdbstub.errors import RspError, TargetError
from gdbstub.frame_view import FrameView
from gdbstub.stop import Exited, StopReason, Terminated
from gdbstub.target import DescribeThreads, ExpediteRegisters, ReadMemory, RegisterBlock, Target, Threads
from gdbstub.threadid import ALL, ANY, ONLY_THREAD, ThreadId, ThreadSpec

# The longest packet body the stub takes, which `qSupported` tells the debugger, and the scale of its own replies.
PACKET_SIZE: Final = 0x10000


class State(Enum):
    """Where a session stands."""

    IDLE = auto()
    """The target stands still and the debugger may ask anything."""
    RUNNING = auto()
    """The target runs. In all-stop mode the debugger waits for a stop reply; it may interrupt. In non-stop mode it may still
    ask anything, but for the registers of a thread that runs."""
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
    non_stop: bool = False
    """Threads run and stop one by one."""
    executed: str = ""
    """The program that the last exec event named; a debugger asks for it when it is to begin again."""
    running: set[ThreadId] = field(default_factory=set)
    """The threads that run; known in non-stop mode only."""
    untold: deque[bytes] = field(default_factory=deque)
    """In non-stop mode, stop replies that the debugger has not said to have heard. The first has been sent."""
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
    listings: dict[str, list[bytes]] = field(default_factory=dict)
    """What `qsTP` and the like have still to send, by their names."""
    frame: FrameView | None = None
    """The trace frame that registers and memory are read from; None: from the target itself."""
    block_is_known: bool = False
    """`g` was answered: from then on gdb takes its reply for the size of a trace file's registers, before for all."""
    file_has_block: bool = False
    """Which of the two gdb has taken when it last asked for the trace's status."""
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

    def live_threads(self) -> Sequence[ThreadId]:
        """The threads to list: none once the program has ended, or gdb would show it as being there again."""
        return () if isinstance(self.target.stop_reason(), Exited | Terminated) else self.threads()

    def find_thread(self, spec: ThreadSpec) -> ThreadId:
        """The thread that `spec` names, or the current one if that will do; TargetError if there is none."""
        matching = [thread for thread in self.threads() if spec.matches(thread)]
        if not matching:
            raise TargetError("there is no such thread")
        return self.chosen if self.chosen in matching else matching[0]

    def thread(self) -> ThreadId:
        """The current thread for registers and memory; TargetError if it has ended."""
        threads = self.threads()
        if self.chosen is None and threads:
            return threads[0]
        if self.chosen is None or self.chosen not in threads:
            raise TargetError("there is no such thread")
        return self.chosen

    def standing_thread(self) -> ThreadId:
        """The current thread for registers, which have no values while it runs."""
        thread = self.thread()
        if thread in self.running:
            raise TargetError("the thread is running: stop it first")
        return thread

    def begin_again(self) -> None:
        """The target stands at its beginning: nothing of the run before has to be told any more."""
        self.running.clear()
        self.untold.clear()
        self.chosen = None

    def check_process(self, pid: int) -> None:
        """TargetError unless `pid` is one of the target's."""
        if all(thread.pid != pid for thread in self.threads()):
            raise TargetError(f"there is no process {pid:x}")

    def read_memory(self, target: ReadMemory, address: int, length: int) -> bytes:
        """The current thread's memory, or the selected trace frame's. Raises MemoryFault."""
        if self.frame is not None:
            return self.frame.read_memory(target, self.thread(), address, length)
        return target.read_memory(self.thread(), address, length)

    def refuse_in_frame(self) -> None:
        """Raise TargetError if a trace frame is selected: the past cannot be changed."""
        if self.frame is not None:
            raise TargetError("a trace frame is selected, and nothing in it can be changed: use `tfind none` first")

    def encode_thread(self, thread: ThreadId) -> bytes:
        """`thread` as this debugger wants it."""
        return thread.encode(multiprocess=self.multiprocess)

    def note_stop(self, reason: StopReason) -> None:
        """A stop makes its thread the current one: the debugger takes that for granted."""
        self.chosen = None if isinstance(reason, Exited | Terminated) else reason.thread

    def error_reply(self, error: RspError, *, text_allowed: bool) -> bytes:
        """An error as text, where the packet or the debugger (`error-message+`, gdb 16) allows it."""
        return error.reply(as_text=text_allowed or self.peer_has("error-message"))
