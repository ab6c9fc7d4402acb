"""What the monitor did and what it cost: `exits` and its relatives. docs/exits.md explains the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dbgvmm.bt.mechanisms import Mechanism, detail_text
from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.cpu.bits import Vector
from dbgvmm.profile.exits import MomentError
from dbgvmm.profile.in_tc import emulated_in_tc
from dbgvmm.profile.moments import Interval, Row
from dbgvmm.profile.places import PlaceRow, Places

MechanismName = Literal[
    "callout", "port", "cr3", "halt", "chain", "lookup", "window", "slice", "precise", "if", "hidden", "ad", "true", "trace",
    "store", "exception", "break", "probe", "watch", "step", "direct", "other", "sample", "translation", "interrupt",
    "delivery", "device", "mmio", "emulated", "entry", "outside", "recording",
]  # fmt: skip
_BY_NAME: Final = {mechanism.title: mechanism for mechanism in Mechanism}
_SHOWN_PLACES: Final = 30
_HEADER: Final = ("count", "per million", "host ms", "mean us", "share")
_RIGHT: Final = (1, 2, 3, 4, 5)


def _figures(row: Row) -> tuple[str, ...]:
    return (
        f"{row.count:,}", f"{row.per_million:,.1f}", f"{row.seconds * 1000:,.2f}", f"{row.mean_us:.1f}", f"{row.share:.1%}"
    )  # fmt: skip


@dataclass(frozen=True)
class ExitTable:
    """Guest time and the monitor's, apart, and each mechanism's part.

    instructions, guest_ns: of the guest's time. seconds: of the host's, spent running; of them translated_seconds in
    translated code, the rest in `rows`. in_tc: sensitive instructions that never left, while execution counters ran (since
    they were started, whatever moments were asked for); None if nothing was counted.
    """

    first_instruction: int
    instructions: int
    guest_ns: int
    exits: int
    seconds: float
    translated_seconds: float
    rows: tuple[Row, ...]
    in_tc: dict[str, int] | None

    def __str__(self) -> str:
        monitor = self.seconds - self.translated_seconds
        title = (
            f"{self.instructions:,} instructions ({self.guest_ns / 1e6:,.1f} ms of guest time), {self.exits:,} exits\n"
            f"host: {self.seconds:.3f} s, of these {self.translated_seconds:.3f} s translated code, {monitor:.3f} s the monitor"
        )
        lines: list[tuple[str, ...]] = []
        for is_exit, heading in ((True, "exit because of"), (False, "work inside of exits, and beside")):
            rows = [row for row in self.rows if row.is_exit is is_exit]
            if rows:
                lines.append((heading, *_HEADER) if is_exit else (heading,))
            lines += [(f"  {row.mechanism}", *_figures(row), _BY_NAME[row.mechanism].meaning) for row in rows]
        share = self.translated_seconds / self.seconds if self.seconds else 0.0
        lines.append(("translated code", "", "", f"{self.translated_seconds * 1000:,.2f}", "", f"{share:.1%}"))
        return f"{title}\n{columns(lines, right=_RIGHT)}\n{self._in_tc_text()}"

    def _in_tc_text(self) -> str:
        if self.in_tc is None:
            return "emulated in the TC, without an exit: not counted (`counters start` counts)"
        counts = ", ".join(f"{count:,} {name}" for name, count in self.in_tc.items()) or "nothing"
        return f"emulated in the TC, without an exit, while counters ran: {counts}"


@dataclass(frozen=True)
class MechanismTable:
    """One mechanism by its details (instruction, port, vector, error code), and by place if that is kept."""

    mechanism: str
    meaning: str
    total: Row | None
    details: tuple[Row, ...]
    places: tuple[PlaceRow, ...]

    def __str__(self) -> str:
        title = f"{self.mechanism}: {self.meaning}"
        if self.total is None:
            return f"{title}\nnever"
        lines: list[tuple[str, ...]] = [("", *_HEADER), ("all", *_figures(self.total))]
        lines += [(f"  {row.detail}", *_figures(row)) for row in self.details if row.detail]
        text = f"{title}\n{columns(lines, right=_RIGHT)}"
        return f"{text}\n{_place_text(self.places)}" if self.places else text


@dataclass(frozen=True)
class PlacesKept:
    """Whether it is kept where exits come from."""

    on: bool

    def __str__(self) -> str:
        if not self.on:
            return "where exits come from is not kept any more"
        return "where exits come from is kept from now on: run the guest, then `exits --by symbol`"


def _place_text(rows: tuple[PlaceRow, ...]) -> str:
    shown = [
        (
            f"{row.count:,}", f"{row.seconds * 1000:,.2f}", f"{row.whole * 1000:,.2f}", row.place,
            ", ".join(f"{count:,} {name}" for name, count in row.mechanisms.items()),
        )
        for row in rows[:_SHOWN_PLACES]
    ]  # fmt: skip
    text = columns(shown, ("count", "host ms", "with work", "where", "why"), right=(0, 1, 2))
    more = len(rows) - _SHOWN_PLACES
    return f"{text}\n... and {more:,} more" if more > 0 else text


@dataclass(frozen=True)
class PlaceTable:
    """Exits by the guest's function or instruction, most host time first. beyond: exits at places too many to keep apart."""

    rows: tuple[PlaceRow, ...]
    beyond: int

    def __str__(self) -> str:
        if not self.rows:
            return "no exit since places are kept: run the guest"
        text = _place_text(self.rows)
        return f"{text}\n{self.beyond:,} exits at places that were too many to keep apart" if self.beyond else text


@dataclass(frozen=True)
class MomentReport:
    """A marked moment in the guest's time, and how many exits there had been."""

    name: str
    instructions: int
    guest_ns: int
    exits: int

    def __str__(self) -> str:
        return (
            f"{self.name}: after {self.instructions:,} instructions, {self.guest_ns / 1e6:,.1f} ms of guest time, "
            f"{self.exits:,} exits"
        )


@dataclass(frozen=True)
class MomentList:
    """All marked moments, in the order in which they were marked."""

    moments: tuple[MomentReport, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.moments)) or "no moment was marked: `exits mark NAME` marks one"


@dataclass(frozen=True)
class Tally:
    """How often each of several things happened, most often first."""

    title: str
    counts: dict[str, int]

    def __str__(self) -> str:
        if not self.counts:
            return f"{self.title}: none"
        return f"{self.title}\n{columns(((f'{number:,}', name) for name, number in self.counts.items()), right=(0,))}"


def _tally(title: str, counts: dict[str, int]) -> Tally:
    ordered = sorted((item for item in counts.items() if item[1]), key=lambda item: (-item[1], item[0]))
    return Tally(title, dict(ordered))


def _interval(session: Session, since: str | None, until: str | None) -> Interval:
    try:
        return session.machine.exits.since(since, until)
    except MomentError as error:
        raise CommandError(str(error)) from error


def _places(session: Session, since: str | None, until: str | None) -> Places:
    try:
        return session.machine.exits.places_since(since, until)
    except MomentError as error:
        raise CommandError(str(error)) from error


@command("exits", aliases=("info exits",))
def exits(
    session: Session,
    mechanism: MechanismName | None = None,
    *,
    since: str | None = None,
    until: str | None = None,
    by: Literal["symbol", "address"] | None = None,
) -> ExitTable | MechanismTable | PlaceTable:
    """Show why the guest's code was left for the monitor, how often, and what it cost the host.

    With MECHANISM only that one, by instruction, port, vector or error code. SINCE and UNTIL are moments that `exits mark`
    has named (power-on, and now). BY symbol or address shows where in the guest exits came from, while `exits record on`
    keeps that (since then, if no moment is given). Each exit has one mechanism, and host time is counted once: the work
    inside of an exit is not in the exit.

    For example:

        exits
        exits port --since boot
        exits --by symbol
        exits --by symbol --since boot --until shell
    """
    machine = session.machine
    which = None if mechanism is None else _BY_NAME[mechanism]
    if by is not None:
        places = _places(session, since, until)
        return PlaceTable(places.rows(machine.symbols, by_symbol=by == "symbol", mechanism=which), places.beyond.count)
    interval = _interval(session, since, until)
    rows = interval.rows()
    if which is None:
        return ExitTable(
            interval.start, interval.instructions, interval.ns, interval.exits, interval.seconds, interval.guest_seconds, rows,
            emulated_in_tc(machine),
        )
    total = next((row for row in rows if row.mechanism == mechanism), None)
    kept: tuple[PlaceRow, ...] = ()
    if machine.exits.keeps_places_since(since, until):
        kept = _places(session, since, until).rows(machine.symbols, by_symbol=False, mechanism=which)
    return MechanismTable(which.title, which.meaning, total, interval.details(which), kept)


@command("exits mark")
def exits_mark(session: Session, name: str) -> MomentReport:
    """Give this moment a NAME, for `exits --since NAME` and `--until NAME`.

    For example:

        exits mark boot
    """
    moment = session.machine.exits.mark(name)
    return MomentReport(name, moment.count, moment.ns, moment.exits)


@command("exits moments")
def exits_moments(session: Session) -> MomentList:
    """List the moments that were marked.

    For example:

        exits moments
    """
    moments = session.machine.exits.moments
    return MomentList(
        tuple(MomentReport(name, moment.count, moment.ns, moment.exits) for name, moment in moments.items())
    )


@command("exits record")
def exits_record(session: Session, what: Literal["on", "off"] = "on") -> PlacesKept:
    """Keep where in the guest exits come from (on), or keep it no more and forget it (off).

    It costs some microseconds an exit, and nothing while it is off; the guest cannot tell.

    For example:

        exits record on
    """
    if what == "off":
        session.machine.exits.drop_places()
        return PlacesKept(False)
    session.machine.exits.keep_places()
    return PlacesKept(True)


@command("info callouts", aliases=("callouts",))
def info_callouts(session: Session) -> Tally:
    """Show which sensitive instructions the monitor carried out, and how often.

    For example:

        info callouts
    """
    ledger = session.machine.dispatcher.ledger
    counts = {
        detail_text(Mechanism.CALLOUT, mnemonic): count for mnemonic, count in ledger.details_of(Mechanism.CALLOUT).items()
    }
    for detail, count in ledger.details_of(Mechanism.PORT).items():
        name = "out" if detail & 1 else "in"
        counts[name] = counts.get(name, 0) + count
    counts["hlt"] = ledger.count_of(Mechanism.HALT)
    counts["mov"] = counts.get("mov", 0) + ledger.count_of(Mechanism.CR3_SWITCH)
    return _tally("callouts", counts)


@command("info exceptions", aliases=("exceptions",))
def info_exceptions(session: Session) -> Tally:
    """Show which exceptions and how many interrupts the guest got.

    For example:

        info exceptions
    """
    ledger = session.machine.dispatcher.ledger
    counts = {Vector.name_of(vector): number for vector, number in ledger.exceptions.items()}
    counts["external interrupts"] = ledger.interrupts
    return _tally("delivered to the guest", counts)
