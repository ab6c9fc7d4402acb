"""Agent expressions: decoding, what is refused, what they compute, what they print."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdbstub.agent import AgentError, EvaluationError, Op, decode, evaluate, format_values

MASK = (1 << 64) - 1


@dataclass
class Agent:
    """Registers 0 to 15 hold ten times their number; memory is 256 bytes of their own addresses."""

    variables: dict[int, int] = field(default_factory=dict)
    collected: list[tuple[int, int]] = field(default_factory=list)
    printed: str = ""
    memory: bytes = bytes(range(256))

    def read_register(self, number: int) -> int:
        if number > 15:
            raise EvaluationError(f"there is no register {number}")
        return 10 * number

    def read_memory(self, address: int, length: int) -> bytes:
        if address + length > len(self.memory):
            raise EvaluationError(f"no memory at {address:#x}")
        return self.memory[address : address + length]

    def variable(self, number: int) -> int:
        return self.variables.get(number, 0)

    def set_variable(self, number: int, value: int) -> None:
        self.variables[number] = value

    def collect_memory(self, address: int, length: int) -> None:
        self.collected.append((address, length))

    def collect_variable(self, number: int) -> None:
        self.collected.append((number, 0))

    def print(self, text: str) -> None:
        self.printed += text


def value(*code: int | bytes, agent: Agent | None = None) -> int:
    joined = b"".join(bytes((part,)) if isinstance(part, int) else part for part in code)
    return evaluate(decode(joined + bytes((Op.END,))), agent or Agent())


def const(number: int) -> bytes:
    return bytes((Op.CONST64,)) + (number & MASK).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("op", "left", "right", "result"),
    [
        (Op.ADD, MASK, 2, 1), (Op.SUB, 1, 2, -1), (Op.MUL, 1 << 63, 2, 0), (Op.DIV_SIGNED, -7, 2, -3),
        (Op.DIV_UNSIGNED, -8, 2, (MASK - 7) // 2), (Op.REM_SIGNED, -7, 2, -1), (Op.REM_UNSIGNED, 7, 4, 3),
        (Op.LSH, 1, 63, 1 << 63), (Op.LSH, 1, 64, 0), (Op.RSH_SIGNED, -8, 1, -4), (Op.RSH_SIGNED, -8, 99, -1),
        (Op.RSH_UNSIGNED, -8, 60, 15), (Op.BIT_AND, 6, 3, 2), (Op.BIT_OR, 6, 3, 7), (Op.BIT_XOR, 6, 3, 5),
        (Op.EQUAL, 5, 5, 1), (Op.EQUAL, 5, 6, 0), (Op.LESS_SIGNED, -1, 0, 1), (Op.LESS_UNSIGNED, -1, 0, 0),
    ],
)  # fmt: skip
def test_binary_operations_are_those_of_64_bit_c(op: Op, left: int, right: int, result: int) -> None:
    assert value(const(left), const(right), op) == result & MASK


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ((const(0), Op.LOG_NOT), 1), ((const(0), Op.BIT_NOT), MASK), ((const(0x80), Op.EXT, 8), -128),
        ((const(0x7F), Op.EXT, 8), 127),
        ((const(-1), Op.ZERO_EXT, 12), 0xFFF), ((const(16), Op.REF32), 0x13121110), ((const(3), Op.REF8), 3),
        ((const(8), Op.REF16), 0x0908), ((const(0), Op.REF64), 0x0706050403020100), ((Op.REG, b"\0\4"), 40),
        ((Op.CONST8, 5, Op.DUP, Op.MUL), 25), ((Op.CONST8, 5, Op.CONST16, b"\1\0", Op.POP), 5),
        ((Op.CONST32, b"\0\0\1\0"), 256),
        ((const(1), const(2), Op.SWAP, Op.SUB), 1), ((const(1), const(2), const(3), Op.ROT), 2),
        ((const(1), const(2), const(3), Op.PICK, 2), 1), ((Op.GETV, b"\0\7"), 0),
        ((const(9), Op.SETV, b"\0\7", Op.POP, Op.GETV, b"\0\7"), 9),
        ((const(1), Op.IF_GOTO, b"\0\x0f", Op.CONST8, 7, Op.END, Op.CONST8, 8), 8), ((), 0),
    ],
)  # fmt: skip
def test_other_instructions(code: tuple[int | bytes, ...], result: int) -> None:
    assert value(*code) == result & MASK


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "runs off"), ("22", "cut off"), ("01 27", "floating"), ("1b 27", "floating"), ("ff 27", "no opcode"),
        ("31 27", "no opcode"), ("02 27", "finds 0 values"), ("2201 2202", "runs off"), ("21 0001 27", "middle"),
        ("21 00ff 27", "runs off its end"), ("2201 200003 27", "middle"), ("2201 21 0000", "as one comes there"),
        ("2200 200007 2201 27", "as one comes"), ("3201 27", "finds 0"), ("34 00 0002 4142 27", "does not end"),
        ("34 00 0009 41", "does not end"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused(code: str, problem: str) -> None:
    with pytest.raises(AgentError, match=problem):
        decode(bytes.fromhex(code))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ((const(1), const(0), Op.DIV_SIGNED), "division by zero"), ((const(1), const(0), Op.REM_UNSIGNED), "division by zero"),
        ((const(999), Op.REF8), "no memory"), ((Op.REG, b"\0\x63"), "no register"), ((Op.GOTO, b"\0\0"), "has not ended"),
    ],
)  # fmt: skip
def test_what_goes_wrong_meanwhile_is_told(code: tuple[int | bytes, ...], problem: str) -> None:
    with pytest.raises(EvaluationError, match=problem):
        value(*code)


def test_collecting_keeps_addresses_and_lengths() -> None:
    agent = Agent(memory=b"abc\0efgh")
    value(const(1), const(2), Op.TRACE, const(5), Op.TRACE_QUICK, 3, Op.POP, agent=agent)
    value(const(0), const(100), Op.TRACENZ, const(4), Op.TRACE16, b"\1\0", Op.TRACEV, b"\0\7", agent=agent)
    assert agent.collected == [(1, 2), (5, 3), (0, 4), (4, 256), (7, 0)]


def test_printf_takes_its_values_from_below_channel_and_function() -> None:
    agent = Agent(memory=b"name\0")
    text = rb"%s is %d\n" + b"\0"
    printf = bytes((Op.PRINTF, 2)) + len(text).to_bytes(2, "big") + text
    value(const(-5), const(0), const(0), const(0), printf, agent=agent)
    assert agent.printed == "name is -5\n"


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("%d|%u|%x", (-1, -1, -1), "-1|4294967295|ffffffff"), ("%ld|%lu|%llx", (-1, 5, -1), f"-1|5|{MASK:x}"),
        ("%5d|%-5d|%05d|%+d", (1, 2, 3, 4), "    1|2    |00003|+4"), ("%#x %o %X", (255, 8, 171), "0xff 10 AB"),
        ("%c%c", (72, 105), "Hi"), ("%p", (0x1234,), "0x1234"), ("100%%", (), "100%"), ("%.3d", (7,), "007"),
        (r"\t\x41\101\\\"\n", (), '\tAA\\"\n'), ("%hhd %hd", (0x1FF, 0x18000), "-1 -32768"), ("%10s|", (0,), "         s|"),
    ],
)  # fmt: skip
def test_formats_are_those_of_c(template: str, values: tuple[int, ...], text: str) -> None:
    assert format_values(template.encode() + b"", values, lambda address: "s") == text


@pytest.mark.parametrize("template", ["%d", "%f", "%5000d", "%n", "%"])
def test_formats_that_cannot_be_used_are_errors_of_the_evaluation(template: str) -> None:
    text = template.encode() + b"\0"
    printf = bytes((Op.PRINTF, 0 if template == "%d" else 1)) + len(text).to_bytes(2, "big") + text
    code = (const(0), const(0), const(0), printf)
    if template == "%":
        agent = Agent()
        value(*code, agent=agent)
        assert agent.printed == "%"
        return
    with pytest.raises(EvaluationError):
        value(*code)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_program_that_ends_or_are_refused(code: bytes) -> None:
    try:
        program = decode(code)
    except AgentError:
        return
    with contextlib.suppress(EvaluationError):
        assert 0 <= evaluate(program, Agent()) <= MASK
