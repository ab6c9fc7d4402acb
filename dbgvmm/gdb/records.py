"""gdb's output records, and to whom each of them goes (GDB manual, "GDB/MI Output Syntax").

The protocol: a command has a token, and exactly one result record has the same; text that comes between the two is the
command's. Everything else is asynchronous: stops, changed breakpoints, text while the guest runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

_KEPT_NOTES: Final = 1000
"""Notes that nobody takes away; older ones are forgotten."""
RUNNING: Final = "running"


class Kind(StrEnum):
    """The kinds of records, as pygdbmi names them."""

    RESULT = "result"
    NOTIFY = "notify"
    CONSOLE = "console"
    TARGET = "target"
    LOG = "log"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `message` is the class of a result ("done") or of a note ("stopped"), empty for streams; `payload` its
    fields; `text` what a stream carries; `token` whose it is."""

    kind: Kind
    message: str = ""
    payload: Mapping[str, Any] | None = None
    text: str = ""
    token: int | None = None

    @classmethod
    def parsed(cls, fields: Mapping[str, Any]) -> Record | None:
        """From what pygdbmi's parser gives; None for the prompt, which says nothing."""
        if fields["type"] == "done":
            return None
        payload = fields["payload"]
        if isinstance(payload, str):
            return cls(Kind(fields["type"]), text=payload)
        return cls(Kind(fields["type"]), fields["message"] or "", payload or {}, token=fields.get("token"))

    @property
    def fields(self) -> Mapping[str, Any]:
        """The payload; empty if there is none."""
        return self.payload or {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command has brought: the result's class, its fields, and the text that came with it.

    `console` is gdb's own output, `target` what the stub has sent for the console (`monitor`), `log` gdb's warnings.
    """

    message: str
    fields: Mapping[str, Any]
    console: str = ""
    target: str = ""
    log: str = ""


class Inbox:
    """Sorts records. `expect` a token, `put` what comes, and `take` the answer.

    An answer that is expected no more (its command has timed out) is dropped when it comes at last.
    """

    def __init__(self) -> None:
        self._expected: int | None = None
        self._answer: Answer | None = None
        self._texts: dict[Kind, list[str]] = {}
        self._stops: deque[tuple[Mapping[str, Any], str]] = deque()
        self._meanwhile: list[str] = []
        self.notes: deque[Record] = deque(maxlen=_KEPT_NOTES)
        """Asynchronous records other than stops, oldest first."""
        self.running = False
        """Whether the guest runs, as far as gdb has said."""
        self.lost = False
        """Whether the target has gone without a last stop: detached, or the connection has broken."""

    def expect(self, token: int) -> None:
        """From now on text belongs to the command with this token."""
        self._expected, self._answer = token, None
        self._texts = {}

    def forget(self) -> None:
        """The answer is not waited for any more."""
        self._expected = None

    def take(self) -> Answer | None:
        """The answer to what is expected, once it is there."""
        answer, self._answer = self._answer, None
        if answer is not None:
            self._texts = {}
        return answer

    def put(self, record: Record) -> None:
        """Give one record to whom it is for."""
        match record.kind:
            case Kind.RESULT:
                self._put_result(record)
            case Kind.NOTIFY:
                self._put_note(record)
            case _ if self._expected is None:
                self._meanwhile.append(record.text)
            case kind:
                self._texts.setdefault(kind, []).append(record.text)

    def _put_result(self, record: Record) -> None:
        if record.message == RUNNING:
            # `*running` follows, but a caller that asks in between must not be told that the guest stands still.
            self.running = True
        if record.token is None or record.token != self._expected:
            return
        texts = {kind: "".join(parts) for kind, parts in self._texts.items()}
        self._answer = Answer(
            record.message, record.fields,
            texts.get(Kind.CONSOLE, "") + texts.get(Kind.OUTPUT, ""), texts.get(Kind.TARGET, ""), texts.get(Kind.LOG, ""),
        )  # fmt: skip
        self._expected = None

    def _put_note(self, record: Record) -> None:
        if record.message == "stopped":
            # Also at the guest's end, which is no loss: the record that looked like one has come just before.
            self.running = self.lost = False
            self._stops.append((record.fields, "".join(self._meanwhile)))
            self._meanwhile.clear()
            return
        match record.message:
            case "running":
                self.running = True
            case "thread-group-exited":
                self.running, self.lost = False, True
            case "thread-group-started":
                self.lost = False
        self.notes.append(record)

    def drop_stops(self) -> None:
        """Forget stops that nobody has asked for, and text with them: the guest is about to be resumed."""
        self._stops.clear()
        self._meanwhile.clear()

    def take_stop(self) -> tuple[Mapping[str, Any], str] | None:
        """The oldest stop not taken yet, and the text that came while the guest ran."""
        return self._stops.popleft() if self._stops else None

    def take_text(self) -> str:
        """The text so far that belongs to no command."""
        text = "".join(self._meanwhile)
        self._meanwhile.clear()
        return text

    def last_words(self) -> list[str]:
        """The lines of text that have come and that nobody has taken: the command's first."""
        pieces = [part for parts in self._texts.values() for part in parts] + list(self._meanwhile)
        return [line for piece in pieces for line in piece.splitlines() if line.strip()]
