"""Packets that ask and set: registers, memory, threads, queries, documents, monitor."""

from __future__ import annotations

from typing import get_type_hints
from xml.etree import ElementTree

import pytest
from rsp_client import Client
from rsp_machine import AVAILABLE, BASE, DATA, LOOP, RAX, RBX, REGISTERS, RIP, SIZE, Bare, Machine

from gdbstub import ALL_ROWS, ONLY_THREAD, PACKET_SIZE, Row, Stub, TargetError, ThreadId
from gdbstub.framing import frame

NAMES = sorted(row.name for row in ALL_ROWS)


def read_document(client: Client, what: str, chunk: int = 0x100) -> str:
    text = b""
    while True:
        reply = client.ask(f"qXfer:{what}:{len(text):x},{chunk:x}")
        text += reply[1:]
        if reply[:1] == b"l":
            return text.decode()
        assert reply[:1] == b"m"


class TestTable:
    @pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row.name)
    def test_a_handlers_target_is_what_its_row_needs(self, row: Row) -> None:
        hints = [hint for name, hint in get_type_hints(row.handler).items() if name.strip("_") == "target"]
        assert hints == [row.needs]

    def test_names_are_unique(self) -> None:
        assert len(set(NAMES)) == len(NAMES)

    def test_two_rows_of_one_name_are_refused(self, machine: Machine) -> None:
        with pytest.raises(ValueError, match="two rows"):
            Stub(machine, [ALL_ROWS[0], Row(ALL_ROWS[0].name, ALL_ROWS[1].handler, Machine)])

    def test_a_bare_target_advertises_only_what_needs_nothing(self) -> None:
        assert Client(Bare()).ask("qSupported") == b"PacketSize=10000;multiprocess+;QStartNoAckMode+"

    @pytest.mark.parametrize(
        "packet", ["g", "m1000,1", "c", "vCont?", "Z0,0,1", "qXfer:threads:read::0,10", "qRcmd,00"]
    )
    def test_a_bare_target_leaves_other_packets_unsupported(self, packet: str) -> None:
        assert Client(Bare()).ask(packet) == b""

    def test_ones_own_packet_can_be_added(self, machine: Machine) -> None:
        row = Row("qMyName", lambda session, target, arguments: b"machine " + arguments, Machine, feature="qMyName+")
        stub = Stub(machine, (*ALL_ROWS, row))
        assert frame(b"machine 7") in stub.feed(frame(b"qMyName:7"))
        assert b"qMyName+" in stub.feed(frame(b"qSupported"))


class TestQueries:
    def test_a_whole_target_advertises_everything(self, client: Client) -> None:
        features = client.ask("qSupported:multiprocess+;xmlRegisters=i386").decode().split(";")
        assert features == [
            "PacketSize=10000",
            "multiprocess+",
            "QStartNoAckMode+",
            "binary-upload+",
            "vContSupported+",
            "swbreak+",
            "hwbreak+",
            "qXfer:features:read+",
            "qXfer:memory-map:read+",
            "qXfer:threads:read+",
            "qSearch:memory+",
            "qXfer:exec-file:read+",
        ]

    def test_the_target_was_there_before_the_debugger(self, client: Client) -> None:
        assert client.ask("qAttached:1") == b"1"

    def test_question_mark_gives_the_reason_with_the_expedited_registers(self, client: Client) -> None:
        rip, rsp = BASE.to_bytes(8, "little").hex(), (BASE + SIZE).to_bytes(8, "little").hex()
        assert client.ask("?") == f"T0510:{rip};7:{rsp};thread:1;core:0;".encode()


class TestRegisters:
    def test_g_gives_all_with_x_for_unavailable_ones(self, client: Client, machine: Machine) -> None:
        reply = client.ask("g")
        sizes = machine.register_sizes
        assert len(reply) == 2 * sum(sizes)
        assert reply[2 * 8 * RBX : 2 * 8 * RBX + 16] == DATA.to_bytes(8, "little").hex().encode()
        assert reply.endswith(b"xx" * sum(sizes[AVAILABLE:]))
        assert b"x" not in reply[: 2 * sum(sizes[:AVAILABLE])]

    def test_what_g_gives_can_be_written_with_capital_g(self, client: Client, machine: Machine) -> None:
        reply = client.ask("g")
        machine.cpus[ONLY_THREAD].values[RAX] = 5
        assert client.ask(b"G" + reply) == b"OK"
        assert machine.cpus[ONLY_THREAD].values[RAX] == 0

    def test_capital_g_leaves_unavailable_registers_alone(self, client: Client, machine: Machine) -> None:
        assert client.ask("G" + "00" * sum(machine.register_sizes)) == b"OK"
        assert machine.cpus[ONLY_THREAD].values[RBX] == 0

    def test_capital_g_of_a_wrong_length_writes_nothing(self, client: Client, machine: Machine) -> None:
        assert client.ask("G" + "00" * 16).startswith(b"E.")
        assert machine.cpus[ONLY_THREAD].values[RBX] == DATA

    def test_one_register_is_written_and_read(self, client: Client, machine: Machine) -> None:
        assert client.ask("P10=1122334455667788") == b"OK"
        assert machine.cpus[ONLY_THREAD].values[RIP] == 0x8877665544332211
        assert client.ask("p10") == b"1122334455667788"

    def test_an_unavailable_register_reads_as_x(self, client: Client) -> None:
        assert client.ask(f"p{AVAILABLE:x}") == b"xx" * 10

    @pytest.mark.parametrize("packet", ["P10=00", "P10", "pffff", "p", f"P{AVAILABLE:x}=" + "00" * 10])
    def test_a_register_that_cannot_be_is_an_error(self, client: Client, packet: str) -> None:
        assert client.ask(packet).startswith(b"E.")


class TestMemory:
    def test_m_reads_in_hexadecimal(self, client: Client) -> None:
        assert client.ask("m1000,8") == LOOP.hex().encode()

    def test_m_gives_what_there_is_up_to_the_end_of_memory(self, client: Client) -> None:
        assert client.ask(f"m{BASE + SIZE - 2:x},10") == b"0000"

    def test_m_gives_no_more_than_fits_a_packet(self, client: Client) -> None:
        assert len(client.ask("m1000,ffffffffffffffff")) == 2 * SIZE

    def test_a_fault_is_an_error_number_since_old_gdb_would_decode_text(self, client: Client) -> None:
        assert client.ask("m0,4") == b"E0e"

    def test_a_fault_is_text_for_a_debugger_that_says_it_takes_it(self, machine: Machine) -> None:
        assert Client(machine, "error-message+").ask("m0,4") == b"E.cannot access memory at 0x0"

    def test_a_read_past_the_last_address_does_not_wrap(self, client: Client) -> None:
        assert client.ask("mffffffffffffffff,10") == b"E0e"

    def test_capital_m_writes(self, client: Client, machine: Machine) -> None:
        assert client.ask("M2000,2:abcd") == b"OK"
        assert machine.memory[DATA - BASE :][:2] == b"\xab\xcd"

    def test_capital_x_writes_any_bytes(self, client: Client, machine: Machine) -> None:
        data = bytes(range(256))
        assert client.ask(b"X2000,100:" + data) == b"OK"
        assert machine.memory[DATA - BASE :][:256] == data

    def test_capital_x_of_nothing_says_that_there_is_such_a_packet(self, client: Client) -> None:
        assert client.ask("X0,0:") == b"OK"

    def test_x_reads_any_bytes(self, client: Client, machine: Machine) -> None:
        machine.memory[DATA - BASE : DATA - BASE + 256] = bytes(range(256))
        assert client.ask("x2000,100") == b"b" + bytes(range(256))

    @pytest.mark.parametrize(
        "packet",
        [
            "m",
            "m1000",
            "m1000,",
            "mxyz,1",
            "m-1,1",
            "m1_0,1",
            "M2000,3:abcd",
            "M2000,1:a",
            "M2fff,2:abcd",
            "Mffffffffffffffff,2:abcd",
            "m10000000000000000,1",
        ],
    )
    def test_malformed_and_impossible_accesses_are_errors(self, client: Client, packet: str) -> None:
        assert client.ask(packet)[:1] == b"E"


class TestThreads:
    def test_h_g_chooses_whose_registers_are_read(self) -> None:
        machine = Machine(cpus=2)
        machine.cpus[ThreadId(1, 2)].values[RAX] = 7
        client = Client(machine)
        assert client.ask("p0")[:2] == b"00"
        assert client.ask("Hgp1.2") == b"OK"
        assert client.ask("p0")[:2] == b"07"
        assert client.ask("qC") == b"QC2"

    def test_thread_ids_have_a_process_for_a_multiprocess_debugger(self) -> None:
        client = Client(Machine(cpus=2), "multiprocess+")
        assert client.ask("qC") == b"QCp1.1"
        assert client.ask("qfThreadInfo") == b"mp1.1,p1.2"
        assert client.ask("qsThreadInfo") == b"l"

    def test_a_long_thread_list_comes_in_parts(self) -> None:
        client = Client(Machine(cpus=5000))
        reply, threads = client.ask("qfThreadInfo"), []
        while reply != b"l":
            assert len(reply) <= PACKET_SIZE
            threads += reply[1:].split(b",")
            reply = client.ask("qsThreadInfo")
        assert [int(thread, 16) for thread in threads] == list(range(1, 5001))

    @pytest.mark.parametrize("thread", ["1", "p1.1", "p1", "0", "-1", "p-1.-1", "p1.-1", "p0.0"])
    def test_all_forms_of_a_living_thread_are_alive(self, client: Client, thread: str) -> None:
        assert client.ask(f"T{thread}") == b"OK"

    @pytest.mark.parametrize("thread", ["2", "p2.1", "p1.2", "", "p", "p1.", "x", "-2"])
    def test_other_threads_are_errors(self, client: Client, thread: str) -> None:
        assert client.ask(f"T{thread}").startswith(b"E.")
        assert client.ask(f"Hg{thread}").startswith(b"E.")

    def test_extra_info_is_hexadecimal_text(self, client: Client) -> None:
        assert bytes.fromhex(client.ask("qThreadExtraInfo,1").decode()) == b"CPU 0, halted"


class TestDocuments:
    def test_the_target_description_is_read_in_chunks(self, client: Client, machine: Machine) -> None:
        for annex, text in machine.target_description().items():
            assert read_document(client, f"features:read:{annex}", 0x40) == text

    def test_its_registers_are_those_of_the_machine(self, client: Client) -> None:
        root = ElementTree.fromstring(read_document(client, "features:read:core.xml"))
        assert [reg.get("name") for reg in root.iter("reg")] == [name for name, _, _ in REGISTERS]

    def test_an_unknown_annex_is_an_error(self, client: Client) -> None:
        assert client.ask("qXfer:features:read:none.xml:0,10").startswith(b"E.there is no annex")

    def test_an_offset_past_the_end_is_an_error(self, client: Client) -> None:
        assert client.ask("qXfer:features:read:target.xml:fffff,10").startswith(b"E.")

    def test_the_memory_map_has_the_region(self, client: Client) -> None:
        (region,) = ElementTree.fromstring(read_document(client, "memory-map:read:")).iter("memory")
        assert region.attrib == {"type": "ram", "start": "0x1000", "length": "0x2000"}

    def test_the_thread_list_has_names_and_cores(self) -> None:
        root = ElementTree.fromstring(read_document(Client(Machine(cpus=2), "multiprocess+"), "threads:read:"))
        assert [(thread.get("id"), thread.get("core"), thread.get("name"), thread.text) for thread in root] == [
            ("p1.1", "0", "CPU 0", "halted"),
            ("p1.2", "1", "CPU 1", "halted"),
        ]

    def test_chunks_are_of_one_version_though_the_target_changes(self, machine: Machine) -> None:
        client = Client(machine)
        first = client.ask("qXfer:threads:read::0,30")
        machine.cpus[ThreadId(1, 2)] = machine.cpus[ONLY_THREAD]
        rest = client.ask("qXfer:threads:read::30,1000")
        ElementTree.fromstring((first[1:] + rest[1:]).decode())
        assert b'id="2"' not in rest
        assert 'id="2"' in read_document(client, "threads:read:")

    @pytest.mark.parametrize(
        "packet", ["qXfer:features:read", "qXfer:features:read:target.xml:0", "qXfer:threads:read:0,1"]
    )
    def test_malformed_reads_are_errors(self, client: Client, packet: str) -> None:
        assert client.ask(packet).startswith(b"E.")


class TestMonitor:
    def monitor(self, client: Client, command: str) -> list[bytes]:
        return client.ask_all("qRcmd," + command.encode().hex())

    def test_the_output_is_the_reply(self, client: Client) -> None:
        assert self.monitor(client, "echo héllo") == ["héllo\n".encode().hex().encode()]

    def test_no_output_is_ok(self, client: Client) -> None:
        assert self.monitor(client, "quiet") == [b"OK"]

    def test_long_output_goes_ahead_in_o_packets(self, client: Client) -> None:
        replies = self.monitor(client, "repeat 100000")
        assert [reply[:1] for reply in replies] == [b"O", b"O", b"O", b"7"]
        assert all(len(reply) <= PACKET_SIZE for reply in replies)
        assert bytes.fromhex("".join(reply.decode().removeprefix("O") for reply in replies)) == b"x" * 100_000

    def test_an_error_is_said_in_words_and_fails_the_command(self, client: Client) -> None:
        text, error = self.monitor(client, "frob")
        assert b"there is no command 'frob'" in bytes.fromhex(text[1:].decode())
        assert error == b"E01"

    def test_an_error_is_only_text_for_a_debugger_that_takes_it(self, machine: Machine) -> None:
        (error,) = self.monitor(Client(machine, "error-message+"), "frob")
        assert error.startswith(b"E.there is no command")

    def test_a_long_command_can_send_text_meanwhile(self) -> None:
        sent = bytearray()

        class Talker(Machine):
            def monitor(self, command: str) -> str:
                sent.extend(stub.console("working\n"))
                return "done\n"

        stub = Stub(Talker())
        sent += stub.feed(frame(b"qRcmd,78"))
        assert sent == b"+" + frame(b"O" + b"working\n".hex().encode()) + frame(b"done\n".hex().encode())

    def test_malformed_hexadecimal_is_an_error(self, client: Client) -> None:
        assert client.ask("qRcmd,7") == b"E16"


def test_a_target_that_gives_a_wrong_size_is_told_on(machine: Machine) -> None:
    class Short(Machine):
        def read_register(self, thread: ThreadId, number: int) -> bytes | None:
            return b"\0"

    assert b"1 bytes for register 0, which has 8" in Client(Short()).ask("p0")


def test_an_error_in_other_letters_is_sent_in_ascii() -> None:
    assert TargetError("é").reply(as_text=True) == b"E.?"
