"""Tracepoint packets that define and run: what the experiment becomes, and what later debuggers are told."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rsp_client import Client
from rsp_machine import BASE, DATA, INC_RAX, RAX, Bare
from rsp_traced import Traced

from gdbstub import ALL_ROWS
from gdbstub.tracing import CollectMemory, CollectRegisters, Key

AT = Key(1, INC_RAX)
PLACE = f"{INC_RAX:x}"


@pytest.fixture
def machine() -> Traced:
    return Traced()


def run(client: Client, machine: Traced, instructions: int) -> None:
    """Continue for so many instructions, and stop as by ^C."""
    assert client.ask_all("c") == []
    assert machine.run(instructions) is None
    machine.interrupt()
    reason = machine.run(1)
    assert reason is not None
    client.stub.report_stop(reason)


def listing(client: Client, first: str, following: str) -> list[bytes]:
    replies = [client.ask(first)]
    while replies[-1] != b"l":
        replies.append(client.ask(following))
    return replies[:-1]


def test_what_is_offered(machine: Traced, client: Client) -> None:
    features = client.ask("qSupported").decode().split(";")
    for feature in (
        "ConditionalTracepoints+", "FastTracepoints+", "InstallInTrace+", "EnableDisableTracepoints+", "tracenz+",
        "DisconnectedTracing+", "TracepointSource+", "QTBuffer:size+", "qXfer:traceframe-info:read+",
    ):  # fmt: skip
        assert feature in features
    assert "StaticTracepoints+" not in features


@pytest.mark.parametrize(
    "packet", ["qTStatus", "QTinit", "qTfP", "QTDP:1:1000:E:0:0", "QTFrame:0", "qTBuffer:0,10", "QTBuffer:size:1"]
)
def test_a_target_without_tracepoints_knows_none_of_it(packet: str) -> None:
    assert Client(Bare()).ask(packet) == b""


class TestDefinitions:
    def test_a_definition_comes_in_pieces(self, client: Client, machine: Traced) -> None:
        assert client.ask(f"QTDP:1:{PLACE}:E:3:7:F5:X3,220127-") == b"OK"
        assert client.ask(f"QTDP:-1:{PLACE}:R3M-1,{DATA:x},4-") == b"OK"
        assert client.ask(f"QTDP:-1:{PLACE}:SR8-") == b"OK"
        assert client.ask(f"QTDP:-1:{PLACE}:M7,10,8") == b"OK"
        (progress,) = machine.experiment.tracepoints
        tracepoint = progress.tracepoint
        assert (tracepoint.key, tracepoint.passes, tracepoint.fast_length) == (AT, 7, 5)
        assert (progress.enabled, progress.complete, tracepoint.plan.steps) == (True, True, 3)
        assert tracepoint.plan.condition is not None
        assert tracepoint.plan.actions == (CollectRegisters(3), CollectMemory(None, DATA, 4))
        assert tracepoint.plan.stepping_actions == (CollectRegisters(8), CollectMemory(7, 0x10, 8))

    def test_one_number_may_have_several_places(self, client: Client, machine: Traced) -> None:
        assert client.ask(f"QTDP:1:{PLACE}:E:0:0") == b"OK"
        assert client.ask(f"QTDP:1:{BASE:x}:D:0:0") == b"OK"
        assert [progress.tracepoint.address for progress in machine.experiment.tracepoints] == [INC_RAX, BASE]

    @pytest.mark.parametrize(
        "head",
        [
            "QTDP:", "QTDP:1", "QTDP:1:1000", "QTDP:1:1000:E", "QTDP:1:1000:E:0", "QTDP:1:1000:Q:0:0", "QTDP:0:1000:E:0:0",
            "QTDP:10000:1000:E:0:0", "QTDP:1:1000:E:0:0:S", "QTDP:1:1000:E:0:0:Z", "QTDP:1:1000:E:0:0:X3,2201",
            "QTDP:1:1000:E:0:0:X3,220127ff", "QTDP:1:1000:E:0:0:X4,26ffff27", "QTDP:1:1000:E:0:0:X4,26001827",
            "QTDP:1:1000:E:0:0:X7,220022010c2200", "QTDP:1:1000:E:0:0:X6,220022010c27", "QTDP:1:1000:E:ffffffff:0",
            "QTDP:1:1000:E:0:zz", "QTDP:1:11111111111111111:E:0:0",
        ],
    )  # fmt: skip
    def test_a_head_that_cannot_be_carried_out_is_refused(self, client: Client, machine: Traced, head: str) -> None:
        assert client.ask(head).startswith(b"E")
        assert not machine.experiment.tracepoints

    @pytest.mark.parametrize(
        "actions",
        [
            "", "S", "R", "Rg", "R1000000000000000000", "M1,2", "M30,0,4", "M18,0,4", "X3,2201", "X2,0127", "X4,26010027", "L",
            "SS", "SR1S",
        ],
    )  # fmt: skip
    def test_an_action_that_cannot_be_carried_out_drops_the_whole(self, client: Client, machine: Traced, actions: str) -> None:
        assert client.ask(f"QTDP:1:{PLACE}:E:0:0-") == b"OK"
        assert client.ask(f"QTDP:-1:{PLACE}:{actions}").startswith(b"E")
        assert not machine.experiment.tracepoints

    def test_a_complete_one_takes_no_more_actions_and_is_kept(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:0:0")
        assert b"has ended already" in client.ask(f"QTDP:-1:{PLACE}:R1")
        assert b"already" in client.ask(f"QTDP:1:{PLACE}:E:0:0")
        assert len(machine.experiment.tracepoints) == 1

    def test_half_a_definition_goes_with_its_debugger(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:0:0-")
        client.ask(f"QTDP:2:{PLACE}:E:0:0")
        client.stub.close()
        assert [progress.tracepoint.number for progress in machine.experiment.tracepoints] == [2]

    def test_actions_of_an_unknown_one_are_refused(self, client: Client) -> None:
        assert b"there is no tracepoint 1" in client.ask("QTDP:-1:1000:R1")

    def test_later_debuggers_get_it_all_back(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:3:7:F5:X3,220127-")
        client.ask(f"QTDP:-1:{PLACE}:R3M-1,{DATA:x},4X3,220127-")
        client.ask(f"QTDP:-1:{PLACE}:SR8")
        client.ask(f"QTDPsrc:1:{PLACE}:at:0:3:666962")
        client.ask(f"QTDPsrc:1:{PLACE}:cmd:0:800:{'61' * 0x800}")
        client.ask(f"QTDP:2:{BASE:x}:D:0:0")
        assert listing(Client(machine), "qTfP", "qTsP") == [
            f"T1:{PLACE}:E:3:7:F5:X3,220127".encode(),
            f"A1:{PLACE}:R3".encode(),
            f"A1:{PLACE}:M-1,{DATA:X},4".encode(),
            f"A1:{PLACE}:X3,220127".encode(),
            f"S1:{PLACE}:R8".encode(),
            f"Z1:{PLACE}:at:0:3:666962".encode(),
            f"Z1:{PLACE}:cmd:0:800:{'61' * 900}".encode(),
            f"Z1:{PLACE}:cmd:384:800:{'61' * 900}".encode(),
            f"Z1:{PLACE}:cmd:708:800:{'61' * 248}".encode(),
            f"T2:{BASE:x}:D:0:0".encode(),
        ]

    def test_init_forgets_everything(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:0:0")
        client.ask("QTDV:2:5:0:61")
        client.ask("QTro:1000,2000")
        client.ask("QTStart")
        assert client.ask("QTinit") == b"OK"
        assert listing(client, "qTfP", "qTsP") == []
        assert len(listing(client, "qTfV", "qTsV")) == 1, "the built-in one stays"
        assert not machine.experiment.readonly
        assert not machine.installed
        assert b"tnotrun" in client.ask("qTStatus")

    def test_static_markers_are_none(self, client: Client) -> None:
        assert client.ask("qTfSTM") == client.ask("qTsSTM") == client.ask("qTSTMat:1000") == b"l"

    def test_a_fast_one_fits_everywhere(self, client: Client) -> None:
        assert client.ask("qTMinFTPILen") == b"1"


class TestRuns:
    def test_hits_are_counted_and_told(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:0:0-")
        client.ask(f"QTDP:-1:{PLACE}:R1")
        assert b"T0;tnotrun:0;tframes:0;tcreated:0" in client.ask("qTStatus")
        assert client.ask("QTStart") == b"OK"
        run(client, machine, 12)
        status = client.ask("qTStatus")
        assert status.startswith(b"T1;tframes:3;tcreated:3;")
        used = 3 * next(iter(machine.experiment.buffer)).size
        assert b"tfree:%x;tsize:500000;circular:0;disconn:0;starttime:3e8;" % (0x500000 - used) in status
        assert client.ask(f"qTP:1:{PLACE}") == b"V3:%x" % used
        client.ask("QTNotes:user:616263;notes:78;tstop:7768790a")
        assert client.ask("QTStop") == b"OK"
        assert client.ask("qTStatus").startswith(b"T0;tstop:7768790a:0;")
        client.ask("QTNotes:tstop:7768790b")
        status = client.ask("qTStatus")
        assert status.startswith(b"T0;tstop:7768790b:0;"), "gdb gives its reason behind the stop"
        assert status.endswith(b";stoptime:3f4;username:616263;notes:78")

    def test_the_last_pass_is_the_reason(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:9:{PLACE}:E:0:2")
        client.ask("QTStart")
        run(client, machine, 20)
        assert client.ask("qTStatus").startswith(b"T0;tpasscount:9;tframes:2;")

    def test_an_error_is_the_reason(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:9:{PLACE}:E:0:0:X4,22001727")
        client.ask("QTStart")
        run(client, machine, 20)
        text = b"condition: cannot read 0x0".hex().encode()
        assert client.ask("qTStatus").startswith(b"T0;terror:%s:9;" % text)

    def test_a_full_buffer_is_the_reason(self, client: Client, machine: Traced) -> None:
        assert client.ask("QTBuffer:size:40") == b"OK"
        client.ask(f"QTDP:9:{PLACE}:E:0:0")
        client.ask("QTStart")
        run(client, machine, 40)
        assert client.ask("qTStatus").startswith(b"T0;tfull:0;tframes:3;tcreated:3;")

    def test_a_circular_buffer_goes_on(self, client: Client, machine: Traced) -> None:
        client.ask("QTBuffer:size:40")
        assert client.ask("QTBuffer:circular:1") == b"OK"
        client.ask(f"QTDP:9:{PLACE}:E:0:0")
        client.ask("QTStart")
        run(client, machine, 40)
        assert client.ask("qTStatus").startswith(b"T1;tframes:3;tcreated:a;")
        assert client.ask("QTBuffer:size:-1") == b"OK"
        assert machine.experiment.buffer.size == 5 << 20

    def test_a_tracepoint_can_be_added_enabled_and_disabled_in_a_run(self, client: Client, machine: Traced) -> None:
        client.ask("QTStart")
        client.ask(f"QTDP:1:{PLACE}:E:0:0-")
        assert not machine.installed, "its actions are still to come"
        client.ask(f"QTDP:-1:{PLACE}:R1")
        assert len(machine.installed) == 1
        assert client.ask(f"QTDisable:1:{PLACE}") == b"OK"
        assert not machine.installed
        assert client.ask(f"QTEnable:1:{PLACE}") == b"OK"
        assert len(machine.installed) == 1

    def test_a_run_ends_with_its_debugger_unless_it_was_to_go_on(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:0:0")
        client.ask("QTDisconnected:1")
        client.ask("QTStart")
        client.ask("D")
        assert machine.experiment.running
        second = Client(machine)
        assert second.ask("qTStatus").startswith(b"T1;")
        second.ask("QTDisconnected:0")
        second.ask("D")
        assert not machine.experiment.running
        assert Client(machine).ask("qTStatus").startswith(b"T0;tdisconnected:0;")

    def test_starting_again_begins_with_an_empty_buffer(self, client: Client, machine: Traced) -> None:
        client.ask(f"QTDP:1:{PLACE}:E:0:0")
        client.ask("QTStart")
        run(client, machine, 12)
        client.ask("QTStart")
        assert client.ask("qTStatus").startswith(b"T1;tframes:0;tcreated:0;")
        assert client.ask(f"qTP:1:{PLACE}") == b"V0:0"
        assert len(machine.installed) == 1


class TestVariables:
    def test_they_are_defined_read_and_listed(self, client: Client) -> None:
        assert client.ask("QTDV:2:fffffffffffffffe:0:746f74616c") == b"OK"
        assert client.ask("qTV:2") == b"Vfffffffffffffffe"
        assert client.ask("qTV:77") == b"U"
        assert listing(client, "qTfV", "qTsV") == [
            b"1:0:1:" + b"trace_timestamp".hex().encode(),
            b"2:fffffffffffffffe:0:746f74616c",
        ]

    def test_expressions_change_them_and_a_new_run_resets_them(self, client: Client, machine: Traced) -> None:
        client.ask("QTDV:2:5:0:61")
        client.ask(f"QTDP:1:{PLACE}:E:0:0-")
        client.ask(f"QTDP:-1:{PLACE}:Xa,2c00022201022d000227")  # $a = $a + 1
        client.ask("QTStart")
        run(client, machine, 12)
        assert client.ask("qTV:2") == b"V8"
        client.ask("QTStart")
        assert client.ask("qTV:2") == b"V5"


GOOD = [
    "QTinit", f"QTDP:1:{PLACE}:E:3:7:F5:X3,220127-", f"QTDP:-1:{PLACE}:R3M-1,2000,4X3,220127-", f"QTDP:-1:{PLACE}:SR8",
    f"QTDPsrc:1:{PLACE}:cmd:0:3:666962", "QTDV:2:5:0:61", "QTro:1000,1010:1020,1030", "QTStart", "QTStop", "QTFrame:0",
    "QTFrame:pc:1002", "QTFrame:tdp:1", "QTFrame:range:1000:2000", "QTFrame:outside:1000:2000", "QTFrame:ffffffff",
    "qTStatus", f"qTP:1:{PLACE}", "qTV:2", "qTfP", "qTsP", "qTfV", "qTsV", "qTBuffer:0,40", "QTBuffer:circular:1",
    "QTBuffer:size:1000", "QTNotes:user:61;notes:62;tstop:63", f"QTEnable:1:{PLACE}", f"QTDisable:1:{PLACE}",
    "QTDisconnected:1", "qXfer:traceframe-info:read::0,100", "qTMinFTPILen", "qTfSTM", "qTsSTM", "qTSTMat:1000",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good packet, truncated or with bytes changed."""
    packet = bytearray(draw(st.sampled_from(GOOD)).encode())
    kind = draw(st.integers(0, 3))
    at = draw(st.integers(0, len(packet)))
    if kind == 0:
        return bytes(packet[:at])
    if kind == 1:
        return bytes(packet[:at]) + draw(st.binary(max_size=6)) + bytes(packet[at:])
    if kind == 2:
        return bytes(packet[:at]) + bytes(packet[at + draw(st.integers(1, 3)) :])
    inserted = draw(st.sampled_from([b":", b"-", b",", b"ffffffffffffffff", b"X", b"S", b";"]))
    return bytes(packet[:at]) + inserted + bytes(packet[at:])


@given(st.lists(mutated(), min_size=1, max_size=12))
@example([b"QTDP:1:1002:E:0:0-", b"QTDP:-1:1002:R\xff", b"QTStart"])
@example([b"QTDP:1:1002:E:0:0", b"QTBuffer:size:1", b"QTStart"])
def test_no_packet_harms_the_stub_or_the_machine(packets: list[bytes]) -> None:
    machine = Traced()
    client = Client(machine)
    before = bytes(machine.memory)
    for packet in packets:
        if packet[:1] in (b"q", b"Q"):
            client.ask(packet)
    client.ask("QTFrame:ffffffff")
    assert bytes(machine.memory) == before
    run(client, machine, 40)
    assert machine.cpus[next(iter(machine.cpus))].values[RAX] == 10
    for packet in ("QTinit", "QTBuffer:size:-1", f"QTDP:1:{PLACE}:E:0:0", "QTStart"):
        assert client.ask(packet) == b"OK"
    run(client, machine, 8)
    assert client.ask(f"qTP:1:{PLACE}").startswith(b"V2:")


def cut_behind_separators() -> list[str]:
    """Each good packet up to each of its separators, those of its name left out."""
    cuts = []
    for packet in GOOD:
        if packet.startswith("QTNotes"):
            continue  # an empty note takes one away
        body = max(len(row.name) for row in ALL_ROWS if packet.startswith(row.name)) + 1
        cuts += [packet[: at + 1] for at in range(body, len(packet)) if packet[at] in ":,"]
    return list(dict.fromkeys(cuts))


@pytest.mark.parametrize("packet", cut_behind_separators())
def test_a_truncated_packet_is_an_error(packet: str) -> None:
    client = Client(Traced())
    for good in GOOD[1:4]:
        if not good.startswith(packet):
            client.ask(good)
    assert client.ask(packet).startswith(b"E")
