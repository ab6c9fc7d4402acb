"""Documents in chunks: `qXfer:object:read:annex:offset,length`."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from gdbstub.errors import RspError, TargetError
from gdbstub.fields import parse_pair, split
from gdbstub.session import PACKET_SIZE, Reply, Session
from gdbstub.table import Row
from gdbstub.target import DescribeTarget, DescribeThreads, MapMemory, Threads

_MEMORY_MAP_HEAD = (
    '<?xml version="1.0"?>\n<!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN"'
    ' "http://sourceware.org/gdb/gdb-memory-map.dtd">\n<memory-map>\n'
)


def features(session: Session, target: DescribeTarget, arguments: bytes) -> Reply:
    """`features`: the target description, by annex."""

    def document(annex: str) -> str:
        annexes = target.target_description()
        if annex not in annexes:
            # E00: the manual's error for an annex that isn't there.
            raise RspError(f"there is no annex {annex!r}", 0)
        return annexes[annex]

    return chunk(session, "features", arguments, document)


def memory_map(session: Session, target: MapMemory, arguments: bytes) -> Reply:
    """`memory-map`: what kind of memory is where."""

    def document(_annex: str) -> str:
        lines = (
            f'<memory type="{region.kind.value}" start="{region.start:#x}" length="{region.length:#x}"/>\n'
            for region in target.memory_map()
        )
        return _MEMORY_MAP_HEAD + "".join(lines) + "</memory-map>\n"

    return chunk(session, "memory-map", arguments, document)


def threads(session: Session, target: Threads, arguments: bytes) -> Reply:
    """`threads`: all threads with their names, at once."""
    return chunk(session, "threads", arguments, lambda _annex: _thread_list(session, target))


def _thread_list(session: Session, target: Threads) -> str:
    lines = []
    for thread in session.live_threads():
        attributes = f'id="{session.encode_thread(thread).decode()}"'
        state = ""
        if isinstance(target, DescribeThreads):
            details = target.thread_details(thread)
            state = escape(details.state)
            if details.core is not None:
                attributes += f' core="{details.core}"'
            if details.name:
                attributes += f" name=\"{escape(details.name)}\""
        lines.append(f"<thread {attributes}>{state}</thread>\n")
    return '<?xml version="1.0"?>\n<threads>\n' + "".join(lines) + "</threads>\n"


def chunk(session: Session, kind: str, arguments: bytes, document: Callable[[str], str]) -> Reply:
    """`m` and a part, or `l` and the last one. The document is made anew when reading begins at 0."""
    annex_bytes, where = split(arguments, b":")
    annex = annex_bytes.decode("ascii", "replace")
    offset, length = parse_pair(where)
    key = f"{kind}:{annex}"
    if offset == 0 or key not in session.documents:
        session.documents[key] = document(annex).encode()
    data = session.documents[key]
    if offset > len(data):
        raise TargetError(f"the document has {len(data)} bytes, none at {offset}")
    end = offset + min(length, PACKET_SIZE - 1)
    if end < len(data):
        return b"m" + data[offset:end]
    del session.documents[key]
    return b"l" + data[offset:]


ROWS = (
    Row("qXfer:features:read", features, DescribeTarget, feature="qXfer:features:read+"),
    Row("qXfer:memory-map:read", memory_map, MapMemory, feature="qXfer:memory-map:read+"),
    Row("qXfer:threads:read", threads, Threads, feature="qXfer:threads:read+"),
)
