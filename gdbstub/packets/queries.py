"""Negotiation: `qSupported`, `QStartNoAckMode`, `qAttached`, `qSymbol`.

`vMustReplyEmpty` has no row on purpose: it asks what a packet without one gets.
"""

from __future__ import annotations

from gdbstub.fields import parse_number
from gdbstub.session import OK, PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import ExecEvents, Target


def supported(session: Session, target: Target, arguments: bytes) -> Reply:
    """`qSupported[:feature...]`: tell each other what both can. The target's protocols decide what we can."""
    session.peer_features = dict(_feature(text) for text in arguments.decode("ascii", "replace").split(";") if text)
    if isinstance(target, ExecEvents):
        target.takes_exec_events = session.peer_has("exec-events")
    return ";".join((f"PacketSize={PACKET_SIZE:x}", *session.features)).encode()


def _feature(text: str) -> tuple[str, str]:
    """`name+`, `name-`, `name?` or `name=value` as name and sign or value."""
    name, equals, value = text.partition("=")
    return (name, value) if equals else (text[:-1], text[-1])


def start_no_ack(session: Session, _target: Target, _: bytes) -> Reply:
    """`QStartNoAckMode`: no more `+` and `-`, in either direction, after the one for this packet."""
    session.no_ack = True
    return OK


def attached(session: Session, _target: Target, arguments: bytes) -> Reply:
    """`qAttached[:pid]`: 1, since the target was there before the debugger; so gdb detaches when it quits."""
    if arguments:
        session.check_process(parse_number(arguments))
    return b"1"


def symbols_offered(_session: Session, _target: Target, _: bytes) -> Reply:
    """`qSymbol::`: gdb has new symbols and would look some up. None are needed."""
    return OK


ROWS = (
    Row("qSupported", supported, Target, feature="multiprocess+", more=(("exec-events+", ExecEvents),)),
    Row("QStartNoAckMode", start_no_ack, Target, feature="QStartNoAckMode+"),
    Row("qAttached", attached, Target),
    Row("qSymbol", symbols_offered, Target),
)
