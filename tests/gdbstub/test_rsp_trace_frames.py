"""Trace frames through packets: finding one, and what registers, memory and variables are while it is selected."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rsp_client import Client
from rsp_machine import BASE, DATA, INC_RAX, NOP, RAX, RIP
from rsp_traced import Traced
from test_rsp_tracepoints import run

from gdbstub import TargetError

NONE = "QTFrame:ffffffff"


@pytest.fixture
def machine() -> Traced:
    return Traced()


@pytest.fixture
def traced(client: Client, machine: Traced) -> Client:
    """A session behind a run. Frames 0, 2 and 4 are of tracepoint 1, with RAX, 4 bytes at DATA and variable 2; 1 and 3 are of
    tracepoint 2, with nothing. The third pass of tracepoint 1 has ended the run."""
    client.ask(f"QTDP:1:{INC_RAX:x}:E:0:3-")
    client.ask(f"QTDP:-1:{INC_RAX:x}:R1M-1,{DATA:x},4X4,2e000227")  # and $2
    client.ask(f"QTDP:2:{NOP:x}:E:0:0")
    client.ask("QTDV:2:7:0:61")
    client.ask("QTStart")
    run(client, machine, 14)
    return client


def little(value: int, size: int) -> str:
    return value.to_bytes(size, "little").hex()


def test_registers_come_from_the_frame_and_the_others_are_unavailable(traced: Client, machine: Traced) -> None:
    assert traced.ask("QTFrame:2") == b"F2T1"
    registers = traced.ask("g").decode()
    assert registers[: 2 * 8] == little(1, 8)
    assert registers[2 * 8 : 2 * 16] == "x" * 16
    assert registers[RIP * 16 : RIP * 16 + 16] == little(INC_RAX, 8)
    assert traced.ask("p0").decode() == little(1, 8)
    assert traced.ask("p1") == b"x" * 16
    assert traced.ask("p10").decode() == little(INC_RAX, 8)
    assert traced.ask("p1000").startswith(b"E")
    assert traced.ask(NONE) == b"OK"
    assert traced.ask("p0").decode() == little(machine.cpus[next(iter(machine.cpus))].values[RAX], 8)


def test_memory_comes_from_the_frame_and_ends_with_it(traced: Client) -> None:
    traced.ask("QTFrame:2")
    assert traced.ask(f"m{DATA:x},10") == b"01000000"
    assert traced.ask(f"x{DATA + 2:x},10") == b"b\0\0"
    assert traced.ask(f"m{DATA + 4:x},1") == b"E0e"
    assert traced.ask(f"m{BASE:x},4") == b"E0e"
    traced.ask(NONE)
    assert traced.ask(f"m{DATA:x},1") == b"03"


def test_read_only_memory_is_the_targets_own(traced: Client) -> None:
    traced.ask(f"QTro:{BASE:x},{BASE + 6:x}")
    traced.ask("QTFrame:0")
    assert traced.ask(f"m{BASE + 2:x},20") == b"48ffc090"
    assert traced.ask(f"m{BASE + 6:x},1") == b"E0e"


def test_search_and_sums_are_over_the_frame(traced: Client) -> None:
    traced.ask("QTFrame:2")
    assert traced.ask(f"qSearch:memory:{DATA:x};4;".encode() + b"\x01\x00") == b"1,%x" % DATA
    assert traced.ask(f"qCRC:{BASE:x},4") == b"E0e"


def test_variables_come_from_the_frame(traced: Client) -> None:
    traced.ask("QTFrame:0")
    assert traced.ask("qTV:2") == b"V7"
    assert traced.ask("qTV:1") == b"V1", "the clock is in every frame"
    traced.ask("QTFrame:1")
    assert traced.ask("qTV:2") == b"U"
    traced.ask(NONE)
    assert traced.ask("qTV:1") == b"Ve"


def test_the_contents_are_told(traced: Client) -> None:
    assert traced.ask("qXfer:traceframe-info:read::0,1000").startswith(b"E")
    traced.ask("QTFrame:0")
    text = traced.ask("qXfer:traceframe-info:read::0,1000")
    assert text[:1] == b"l"
    document = ElementTree.fromstring(text[1:])
    assert document.tag == "traceframe-info"
    assert [(element.tag, dict(element.attrib)) for element in document] == [
        ("memory", {"start": f"{DATA:#x}", "length": "0x4"}),
        ("tvar", {"id": "0x2"}),
        ("tvar", {"id": "0x1"}),
    ]
    traced.ask("QTFrame:1")
    assert b"<memory" not in traced.ask("qXfer:traceframe-info:read::0,1000")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (f"pc:{INC_RAX:x}", [0, 2, 4]),
        (f"pc:{BASE:x}", []),
        ("tdp:2", [1, 3]),
        (f"range:{BASE:x}:{INC_RAX:x}", [0, 2, 4]),
        (f"outside:{BASE:x}:{INC_RAX:x}", [1, 3]),
    ],
)
def test_frames_are_found_one_behind_the_other(traced: Client, wanted: str, found: list[int]) -> None:
    replies = []
    while (reply := traced.ask(f"QTFrame:{wanted}")) != b"F-1":
        replies.append(int(reply[1:].partition(b"T")[0], 16))
        assert len(replies) < 10
    assert replies == found


def test_a_frame_that_is_not_there_leaves_the_selection(traced: Client) -> None:
    traced.ask("QTFrame:0")
    assert traced.ask("QTFrame:77") == b"F-1"
    assert traced.ask("p0").decode() == little(0, 8)


def test_the_past_cannot_be_changed(traced: Client, machine: Traced) -> None:
    traced.ask("QTFrame:0")
    before = bytes(machine.memory)
    for packet in (f"M{DATA:x},1:77", f"X{DATA:x},1:w", f"P0={little(5, 8)}", "G" + traced.ask("g").decode()):
        assert traced.ask(packet).startswith(b"E")
    assert bytes(machine.memory) == before


def test_going_on_leaves_the_frame(traced: Client, machine: Traced) -> None:
    traced.ask("QTFrame:0")
    run(traced, machine, 1)
    assert traced.ask(f"m{BASE:x},1") == b"88"


def test_a_selected_frame_outlives_its_place_in_the_buffer(traced: Client) -> None:
    traced.ask("QTFrame:2")
    traced.ask("QTBuffer:size:0")
    assert traced.ask("p0").decode() == little(1, 8)
    assert traced.ask("QTFrame:0") == b"F-1"


def read_buffer(client: Client) -> bytes:
    read = b""
    while (reply := client.ask(f"qTBuffer:{len(read):x},7d0")) != b"l":
        part = bytes.fromhex(reply.decode())
        assert 0 < len(part) <= 0x7D0
        read += part
    return read


def test_the_buffer_is_read_as_it_stands_in_a_file(traced: Client, machine: Traced) -> None:
    """gdb takes all registers for those of a file until it has seen a reply to `g`, and looks at that in `qTStatus`."""
    machine.experiment.layout = replace(machine.experiment.layout, block=RIP + 1)
    buffer, layout = machine.experiment.buffer, machine.experiment.layout
    whole = b"".join(frame.encode(layout.whole) for frame in buffer)
    block = b"".join(frame.encode(layout) for frame in buffer)
    assert len(whole) > len(block)
    traced.ask("qTStatus")
    assert read_buffer(traced) == whole
    traced.ask("g")
    assert read_buffer(traced) == whole
    traced.ask("qTStatus")
    assert read_buffer(traced) == block
    assert traced.ask(f"qTBuffer:{len(whole) + 100:x},10") == b"l"


def test_a_target_that_keeps_files_is_given_a_whole_one(machine: Traced) -> None:
    class Saving(Traced):
        saved: tuple[str, bytes] = ("", b"")

        def save_trace(self, name: str, data: bytes) -> None:
            if not name.startswith("/"):
                raise TargetError("names begin with /")
            self.saved = name, data

    assert Client(machine).ask(f"QTSave:{b'/a'.hex()}") == b""
    saving = Saving()
    client = Client(saving)
    client.ask(f"QTDP:1:{INC_RAX:x}:E:0:0")
    client.ask("QTStart")
    run(client, saving, 8)
    assert client.ask(f"QTSave:{b'/a'.hex()}") == b"OK"
    name, data = saving.saved
    assert name == "/a"
    head, _, frames = data.partition(b"\n\n")
    assert head.startswith(b"\x7fTRACE0\nR ")
    assert b"tp T1:1002:E:0:0\ntp V1:1002:2:" in head
    assert b'\ntdesc <?xml version="1.0"?>' in head
    layout = saving.experiment.layout
    assert frames == b"".join(frame.encode(layout) for frame in saving.experiment.buffer) + b"\0\0"
    assert client.ask(f"QTSave:{b'a'.hex()}").startswith(b"E")
    assert client.ask("QTSave:").startswith(b"E")
