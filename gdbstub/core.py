"""The stub's state machine: bytes in, bytes out, no input or output of its own.

    IDLE --(c, s, vCont)--> RUNNING --(report_stop)--> IDLE
    either --(D, k, vKill, close)--> DISCONNECTED

In all-stop mode the debugger waits for the stop reply while RUNNING, and may only interrupt or let go. In non-stop mode it may
ask anything at any time, and is told of each thread's stop by a notification (packets/nonstop.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from gdbstub.errors import RspError
from gdbstub.framing import (
    ACK,
    NAK,
    Ack,
    Corrupt,
    Event,
    Interrupt,
    Nak,
    Notification,
    Packet,
    PacketReader,
    TooLong,
    frame,
    frame_notification,
)
from gdbstub.packets import ALL_ROWS
from gdbstub.packets.monitor import console_packets
from gdbstub.session import PACKET_SIZE, UNSUPPORTED, Enter, Session, State
from gdbstub.stop import Executed, Exited, StopReason, Terminated
from gdbstub.stopreply import encode_stop
from gdbstub.table import PacketTable, Row
from gdbstub.target import Detach, Resume, Target
from gdbstub.threadid import parse_thread

# A shorter reply goes out as one segment of a network anyway, and looking for runs in it takes longer than sending it.
_RUNS_FROM: Final = 1400


class Stub:
    """One debugger's session with `target`: make a new one for each connection.

    Whatever a method returns has to be sent to the debugger, in order. `rows` may add packets of one's own.
    """

    def __init__(self, target: Target, rows: Iterable[Row] = ALL_ROWS) -> None:
        if not isinstance(target, Target):
            raise TypeError(f"{type(target).__name__} is no target: it needs a stop_reason() method")
        self._table = PacketTable(rows, target)
        self._session = Session(target, self._table.features, self._send, self._interrupt)
        self._state = State.IDLE
        self._reader = PacketReader(PACKET_SIZE)
        self._out: list[bytes] = []
        self._last = b""
        self._serving = False
        self._interrupt_queued = False

    @property
    def state(self) -> State:
        """Idle, running or disconnected."""
        return self._state

    @property
    def non_stop(self) -> bool:
        """Non-stop mode. Then the target must stand still for as long as `feed` takes."""
        return self._session.non_stop

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the debugger, in any pieces, and return what to send back.

        No input makes this raise; what a target raises, other than RspError, passes through.
        """
        if self._serving:
            raise RuntimeError("feed() was called from within a target's method; call it after that has returned")
        self._serving = True
        try:
            for event in self._reader.feed(data):
                if self._state is not State.DISCONNECTED:
                    self._take(event)
        finally:
            self._serving = False
        return self._drain()

    def report_stop(self, reason: StopReason) -> bytes:
        """Say that the target has stopped (in non-stop mode: the thread of `reason`). Returns what tells the debugger, or
        nothing if it takes the target not to run."""
        if self._serving:
            raise RuntimeError("report_stop() was called from within a target's method; call it after feed() returned")
        if self._state is not State.RUNNING:
            return b""
        if isinstance(reason, Executed):
            self._session.executed = reason.path
        if self._session.non_stop:
            return self._notify(reason)
        self._state = State.IDLE
        self._session.note_stop(reason)
        self._send(encode_stop(self._session, reason))
        return self._drain()

    def _notify(self, reason: StopReason) -> bytes:
        """One stop in non-stop mode. Only one notification is under way at a time; the others wait for `vStopped`."""
        session = self._session
        if isinstance(reason, Exited | Terminated):
            session.running.clear()
        elif reason.thread in session.running:
            session.running.remove(reason.thread)
        else:
            return b""
        self._state = State.RUNNING if session.running else State.IDLE
        session.untold.append(encode_stop(session, reason))
        return frame_notification(b"Stop:" + session.untold[0]) if len(session.untold) == 1 else b""

    def console(self, text: str | bytes) -> bytes:
        """Have the debugger show `text`. It can only while the target runs or within a `monitor` command (then send the
        result at once: it carries what is due before it). At other times the text is dropped, and in non-stop mode, which
        has no place for it while the target runs."""
        if (self._state is not State.RUNNING or self._session.non_stop) and not self._session.in_monitor:
            return b""
        for payload in console_packets(text):
            self._send(payload)
        return self._drain()

    def close(self) -> None:
        """Say that the connection is gone. The target's `detach` is called unless it has been."""
        self._enter(State.DISCONNECTED)

    def _send(self, payload: bytes) -> None:
        self._last = frame(payload, runs=len(payload) >= _RUNS_FROM)
        self._out.append(self._last)

    def _drain(self) -> bytes:
        out = self._out
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    def _take(self, event: Event) -> None:
        if isinstance(event, Packet):  # as nearly all are: a case of `match` takes ten times as long
            self._acknowledge(ACK)
            self._serve(event.payload)
            return
        match event:
            case TooLong(limit):
                # Asking for it again would bring the same packet again.
                self._acknowledge(ACK)
                self._fail(RspError(f"a packet may have at most {limit} bytes", errno.EMSGSIZE))
            case Corrupt(reason):
                self._acknowledge(NAK)
                if self._session.no_ack:
                    # Nobody will send it again, and a debugger without an answer would wait for ever.
                    self._fail(RspError(f"damaged packet: {reason}", errno.EIO))
            case Nak():
                if not self._session.no_ack and not self._session.after_monitor:
                    self._out.append(self._last)
            case Interrupt():
                self._interrupt()
            case Ack() | Notification():
                pass

    def _acknowledge(self, sign: bytes) -> None:
        if not self._session.no_ack:
            self._out.append(sign)

    def _fail(self, error: RspError, *, text_allowed: bool = False) -> None:
        self._send(self._session.error_reply(error, text_allowed=text_allowed))

    def _serve(self, payload: bytes) -> None:
        """Find the packet's row, run it, send its reply."""
        self._session.after_monitor = False
        if self._session.thread_suffixes and payload.endswith(b";"):
            payload = self._take_suffix(payload)
        found = self._table.find(payload)
        if found is None:
            self._send(UNSUPPORTED)
            return
        row, arguments = found
        if self._state is State.RUNNING and not (row.while_running or self._session.non_stop):
            self._fail(RspError("the target is running: interrupt it first", errno.EBUSY), text_allowed=row.text_errors)
            return
        try:
            outcome = row.handler(self._session, self._session.target, arguments)
        except RspError as error:
            self._fail(error, text_allowed=row.text_errors)
            return
        reply = outcome.reply if isinstance(outcome, Enter) else outcome
        if reply is not None:
            self._send(reply)
        if isinstance(outcome, Enter):
            self._enter(outcome.state)

    def _take_suffix(self, payload: bytes) -> bytes:
        """Without lldb's `;thread:id;`, which chooses the thread as `Hg` would."""
        body, found, thread = payload[:-1].rpartition(b";thread:")
        if not found:
            return payload
        try:
            self._session.chosen = self._session.find_thread(parse_thread(thread))
        except RspError:
            return payload  # which then fails as it is
        return body

    def _enter(self, state: State) -> None:
        target = self._session.target
        if state is State.DISCONNECTED and self._state is not state and isinstance(target, Detach):
            target.detach()
        self._state = state
        if state is State.RUNNING and self._interrupt_queued:
            self._interrupt()

    def _interrupt(self) -> None:
        """Stop a running target. One that stands still is stopped when next resumed (GDB manual, "Interrupts")."""
        running = self._state is State.RUNNING
        self._interrupt_queued = not running
        if running and isinstance(self._session.target, Resume):
            self._session.target.interrupt()
