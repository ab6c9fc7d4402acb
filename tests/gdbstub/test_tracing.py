"""Tracing without packets: actions as text, frames and their form in trace files, the buffer, variables."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsp_machine import BASE, DATA, INC_RAX, RAX, RBX, RIP
from rsp_traced import Traced

from gdbstub import RspError
from gdbstub.agent import decode
from gdbstub.tracing import (
    CollectExpression,
    CollectMemory,
    CollectRegisters,
    Ended,
    Experiment,
    Key,
    Plan,
    RegisterLayout,
    TraceBuffer,
    TraceFrame,
    Tracepoint,
    Variable,
    Variables,
)
from gdbstub.tracing.actions import encode_action, parse_actions, registers_of

LAYOUT = RegisterLayout(sizes=(8, 4, 8, 16), block=3, pc=2)
CONST_1 = decode(bytes.fromhex("220127"))
NUMBERS = st.integers(0, (1 << 64) - 1)
ACTIONS = st.one_of(
    st.integers(0, (1 << 94) - 1).map(CollectRegisters),
    st.builds(CollectMemory, st.none() | st.integers(0, 200), NUMBERS, NUMBERS),
    st.just(CollectExpression(CONST_1)),
)


def parse_file(data: bytes, block_size: int) -> list[tuple[int, list[tuple[object, ...]]]]:
    """The frames in a trace file's last part, as the GDB manual describes it."""
    frames = []
    at = 0
    while at < len(data):
        tracepoint, size = struct.unpack_from("<HI", data, at)
        at += 6
        end = at + size
        blocks: list[tuple[object, ...]] = []
        while at < end:
            kind, at = data[at : at + 1], at + 1
            if kind == b"R":
                blocks.append(("R", data[at : at + block_size]))
                at += block_size
            elif kind == b"M":
                address, length = struct.unpack_from("<QH", data, at)
                blocks.append(("M", address, data[at + 10 : at + 10 + length]))
                at += 10 + length
            else:
                assert kind == b"V"
                blocks.append(("V", *struct.unpack_from("<iQ", data, at)))
                at += 12
        assert at == end
        frames.append((tracepoint, blocks))
    return frames


class TestActions:
    @given(st.lists(ACTIONS))
    def test_what_is_written_is_read_back(self, actions: list[CollectRegisters | CollectMemory | CollectExpression]) -> None:
        assert parse_actions(b"".join(map(encode_action, actions))) == tuple(actions)

    def test_gdbs_own_text_is_read(self) -> None:
        actions = parse_actions(b"R0100e0M-1,131004,4M7,fffffffffffffff8,10X00000003,220127MFFFFFFFF,10,1")
        assert actions == (
            CollectRegisters(0x100E0),
            CollectMemory(None, 0x131004, 4),
            CollectMemory(7, 0xFFFF_FFFF_FFFF_FFF8, 0x10),
            CollectExpression(CONST_1),
            CollectMemory(None, 0x10, 1),
        )
        assert registers_of(actions) == 0x100E0

    @pytest.mark.parametrize("text", [b"R", b"Rx", b"M1", b"M1,2", b"M1,2,", b"X3", b"X3,22", b"X3,2201", b"L", b"Q", b"X1,01"])
    def test_anything_else_is_refused(self, text: bytes) -> None:
        with pytest.raises(RspError):
            parse_actions(text)


class TestFrames:
    FRAME = TraceFrame(7, 0x1234, 99, 0b1011, b"A" * 8 + b"B" * 4 + b"D" * 16, ((0x10, b"abcd"), (0x14, b"efgh")), ((3, 5),))

    def test_registers_are_those_of_the_mask_and_the_program_counter(self) -> None:
        values = [self.FRAME.register(LAYOUT, number) for number in range(4)]
        assert values == [b"A" * 8, b"B" * 4, (0x1234).to_bytes(8, "little"), b"D" * 16]
        assert TraceFrame(7, 0x1234, 99).register(LAYOUT, 0) is None

    @pytest.mark.parametrize(
        ("address", "length", "data"),
        [(0x10, 8, b"abcdefgh"), (0x12, 3, b"cde"), (0x16, 10, b"gh"), (0xF, 4, b""), (0x18, 1, b""), (0x10, 0, b"")],
    )
    def test_memory_is_read_as_far_as_it_lies_in_one_piece(self, address: int, length: int, data: bytes) -> None:
        assert self.FRAME.read(address, length) == data

    def test_a_file_has_the_g_packets_registers_memory_and_variables(self) -> None:
        data = self.FRAME.encode(LAYOUT)
        assert len(data) == self.FRAME.encoded_size(LAYOUT)
        registers = b"A" * 8 + b"B" * 4 + (0x1234).to_bytes(8, "little")
        assert parse_file(data, LAYOUT.block_size) == [
            (7, [("R", registers), ("M", 0x10, b"abcd"), ("M", 0x14, b"efgh"), ("V", 3, 5)])
        ]

    def test_long_memory_becomes_several_blocks(self) -> None:
        frame = TraceFrame(1, 0, 0, memory=((0x100, b"x" * 0x18000),))
        data = frame.encode(LAYOUT)
        assert len(data) == frame.encoded_size(LAYOUT) == frame.size
        assert parse_file(data, 0) == [(1, [("M", 0x100, b"x" * 0xFFFF), ("M", 0x100FF, b"x" * 0x8001)])]

    def test_without_registers_there_is_no_block_of_them(self) -> None:
        assert parse_file(TraceFrame(1, 5, 0).encode(LAYOUT), LAYOUT.block_size) == [(1, [])]


def frames(count: int) -> list[TraceFrame]:
    return [TraceFrame(number + 1, 0x1000 + number, number, memory=((0, bytes(number)),)) for number in range(count)]


class TestBuffer:
    def test_a_full_one_takes_no_more(self) -> None:
        buffer = TraceBuffer()
        one = TraceFrame(1, 0, 0)
        buffer.size = 3 * one.size
        assert [buffer.append(one) for _ in range(4)] == [True, True, True, False]
        assert (len(buffer), buffer.created, buffer.free) == (3, 3, 0)

    def test_a_circular_one_drops_the_oldest(self) -> None:
        buffer = TraceBuffer()
        buffer.circular = True
        buffer.size = 100
        for frame in frames(10):
            assert buffer.append(frame)
        kept = list(buffer)
        assert kept == frames(10)[-len(kept) :]
        assert 0 < len(kept) < 10
        assert buffer.created == 10
        assert buffer.used == sum(frame.size for frame in kept) <= 100
        assert buffer.used + frames(10)[-len(kept) - 1].size > 100, "no more were dropped than had to be"

    def test_what_never_fits_does_not_empty_a_circular_one(self) -> None:
        buffer = TraceBuffer()
        buffer.circular = True
        buffer.size = 50
        buffer.append(TraceFrame(1, 0, 0))
        assert not buffer.append(TraceFrame(2, 0, 0, memory=((0, bytes(50)),)))
        assert len(buffer) == 1

    def test_making_it_smaller_keeps_the_newest(self) -> None:
        buffer = TraceBuffer()
        for frame in frames(5):
            buffer.append(frame)
        buffer.size = frames(5)[-1].size
        assert list(buffer) == frames(5)[-1:]

    def test_frames_are_found_behind_a_number(self) -> None:
        buffer = TraceBuffer()
        for _ in range(2):
            for frame in frames(3):
                buffer.append(frame)
        assert buffer.find(lambda frame: frame.tracepoint == 2) == 1
        assert buffer.find(lambda frame: frame.tracepoint == 2, 1) == 4
        assert buffer.find(lambda frame: frame.tracepoint == 2, 4) is None
        assert buffer.frame(5) == frames(3)[2]
        assert buffer.frame(6) is None

    @given(st.integers(0, 300), st.integers(1, 80))
    def test_any_part_of_the_file_can_be_read(self, offset: int, length: int) -> None:
        buffer = TraceBuffer()
        for frame in frames(7):
            buffer.append(frame)
        whole = b"".join(frame.encode(LAYOUT) for frame in frames(7))
        assert buffer.read(LAYOUT, offset, length) == whole[offset : offset + length]


class TestVariables:
    def test_a_run_begins_with_the_initial_values(self) -> None:
        variables = Variables()
        variables.define(2, "total", 5)
        assert variables.find(2) == 5
        variables.set(2, 9)
        assert variables.find(2) == 9
        variables.begin()
        assert variables.find(2) == 5

    def test_one_that_nobody_knows_is_0_and_can_be_set(self) -> None:
        variables = Variables()
        assert (variables.find(9), variables.value(9)) == (None, 0)
        variables.set(9, -1)
        assert variables.find(9) == (1 << 64) - 1

    def test_a_built_in_one_cannot_be_changed(self) -> None:
        variables = Variables([Variable(1, "time", read=lambda: 42)])
        variables.define(1, "other", 3)
        variables.set(1, 7)
        variables.clear()
        assert variables.find(1) == 42
        assert [variable.name for variable in variables] == ["time"]


class TestExperiment:
    """With the example machine as host: mov [rbx], al; inc rax; nop; jmp back."""

    @pytest.fixture
    def machine(self) -> Traced:
        return Traced()

    def trace(self, machine: Traced, *tracepoints: Tracepoint, instructions: int = 16) -> Experiment:
        experiment = machine.experiment
        for tracepoint in tracepoints:
            experiment.define(tracepoint, enabled=True)
            experiment.complete(tracepoint.key)
        experiment.start()
        for _ in range(instructions):
            thread = next(iter(machine.cpus))
            machine._execute(thread, machine.cpus[thread].values)
        return experiment

    def test_frames_hold_the_state_in_front_of_the_instruction(self, machine: Traced) -> None:
        plan = Plan(actions=(CollectRegisters(1 << RAX), CollectMemory(RBX, 0, 1)))
        experiment = self.trace(machine, Tracepoint(Key(1, INC_RAX), plan))
        seen = [
            (frame.address, frame.count, frame.register(experiment.layout, RAX), frame.read(DATA, 1), frame.variable(1))
            for frame in experiment.buffer
        ]
        assert seen == [(INC_RAX, 4 * n + 1, n.to_bytes(8, "little"), bytes((n,)), 4 * n + 1) for n in range(4)]

    def test_a_condition_decides(self, machine: Traced) -> None:
        odd = decode(bytes.fromhex("260000" "2201" "0f" "27"))  # reg 0 & 1
        experiment = self.trace(machine, Tracepoint(Key(1, INC_RAX), Plan(odd, (CollectRegisters(1),))))
        assert [frame.registers[0] for frame in experiment.buffer] == [1, 3]
        assert experiment.find(Key(1, INC_RAX)).hits == 2

    def test_the_last_pass_ends_the_run_with_its_steps(self, machine: Traced) -> None:
        plan = Plan(actions=(), steps=2, stepping_actions=(CollectRegisters(1 << RIP),))
        experiment = self.trace(machine, Tracepoint(Key(3, BASE), plan, passes=2))
        assert [frame.address - BASE for frame in experiment.buffer] == [0, 2, 5, 0, 2, 5]
        assert (experiment.end.reason, experiment.end.tracepoint) == (Ended.PASSES, 3)
        assert not experiment.running
        assert not machine.installed

    def test_steps_of_two_tracepoints_overlap(self, machine: Traced) -> None:
        first = Tracepoint(Key(1, BASE), Plan(steps=3))
        second = Tracepoint(Key(2, INC_RAX), Plan(steps=1))
        experiment = self.trace(machine, first, second, instructions=4)
        numbers = [(frame.tracepoint, frame.address - BASE) for frame in experiment.buffer]
        assert numbers == [(1, 0), (1, 2), (2, 2), (1, 5), (2, 5), (1, 6)]

    def test_an_expression_that_cannot_be_evaluated_ends_the_run_and_says_why(self, machine: Traced) -> None:
        read_0 = decode(bytes.fromhex("2200" "17" "27"))
        plan = Plan(actions=(CollectRegisters(1), CollectExpression(read_0)))
        experiment = self.trace(machine, Tracepoint(Key(4, BASE), plan))
        assert (experiment.end.reason, experiment.end.tracepoint) == (Ended.ERROR, 4)
        assert "cannot read 0x0" in experiment.end.text
        assert len(experiment.buffer) == 1, "what was collected before is kept"

    def test_a_condition_that_cannot_be_evaluated_does_too(self, machine: Traced) -> None:
        read_0 = decode(bytes.fromhex("2200" "17" "27"))
        experiment = self.trace(machine, Tracepoint(Key(4, BASE), Plan(read_0)))
        assert experiment.end.reason is Ended.ERROR
        assert "condition" in experiment.end.text

    def test_memory_that_is_not_there_is_left_out(self, machine: Traced) -> None:
        plan = Plan(actions=(CollectMemory(None, 0, 8), CollectMemory(None, BASE + 0x1FFC, 8)))
        experiment = self.trace(machine, Tracepoint(Key(1, BASE), plan), instructions=1)
        (frame,) = experiment.buffer
        assert [(at, len(data)) for at, data in frame.memory] == [(BASE + 0x1FFC, 4)]

    def test_a_string_is_collected_up_to_its_end(self, machine: Traced) -> None:
        machine.memory[DATA - BASE : DATA - BASE + 6] = b"\0bc\0ef"
        string = decode(bytes.fromhex("232001" "2214" "2f" "27"))  # tracenz 0x2001, 20
        plan = Plan(actions=(CollectExpression(string),))
        experiment = self.trace(machine, Tracepoint(Key(1, BASE), plan), instructions=1)
        assert next(iter(experiment.buffer)).memory == ((DATA + 1, b"bc\0"),)

    def test_more_memory_than_the_buffer_takes_ends_the_run(self, machine: Traced) -> None:
        plan = Plan(actions=(CollectMemory(None, BASE, 1 << 62),))
        experiment = self.trace(machine, Tracepoint(Key(1, BASE), plan))
        assert experiment.end.reason is Ended.FULL

    def test_a_full_buffer_ends_the_run(self, machine: Traced) -> None:
        machine.experiment.buffer.size = 100
        experiment = self.trace(machine, Tracepoint(Key(1, BASE), Plan(actions=(CollectRegisters(1),))))
        assert experiment.end.reason is Ended.FULL
        assert 0 < len(experiment.buffer) < 4

    def test_a_disabled_one_collects_nothing_until_it_is_enabled(self, machine: Traced) -> None:
        tracepoint = Tracepoint(Key(1, BASE), Plan())
        experiment = machine.experiment
        experiment.define(tracepoint, enabled=False)
        experiment.complete(tracepoint.key)
        self.trace(machine)
        assert not experiment.buffer
        experiment.enable(tracepoint.key, True)
        assert machine.installed == [tracepoint]
        experiment.enable(tracepoint.key, False)
        assert not machine.installed

    def test_one_whose_definition_is_not_complete_is_not_installed(self, machine: Traced) -> None:
        machine.experiment.define(Tracepoint(Key(1, BASE), Plan()), enabled=True)
        machine.experiment.start()
        assert not machine.installed
        machine.experiment.complete(Key(1, BASE))
        assert len(machine.installed) == 1

    def test_what_others_have_collected_can_be_recorded(self, machine: Traced) -> None:
        experiment = self.trace(machine, Tracepoint(Key(1, BASE), Plan(), passes=2), instructions=0)
        for count in (10, 20, 30):
            experiment.record(Key(1, BASE), TraceFrame(1, BASE, count))
        assert [frame.count for frame in experiment.buffer] == [10, 20]
        assert experiment.end.reason is Ended.PASSES
