"""Expressions: what they mean, and that a compiled condition means the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.expression import evaluate, evaluate_typed
from dbgvmm.cpu.bits import GPR, MASK64
from dbgvmm.debug.expressions import ExpressionError, Names, Values, parse
from dbgvmm.debug.expressions import evaluate as evaluate_node
from dbgvmm.debug.expressions.bytecode import NoBytecode, program_of
from dbgvmm.debug.gdb_description import GDB_REGISTERS
from dbgvmm.debug.symbols import SymbolTable
from gdbstub.agent import evaluate as run_bytecode

WORDS = 0x5000


@pytest.fixture
def filled(hello: Session) -> Session:
    """RBX, RCX and sixteen bytes of memory hold what is known."""
    hello.machine.cpu.gpr[GPR.RBX] = 0xFFFF_FFFF_8000_0081
    hello.machine.cpu.gpr[GPR.RCX] = WORDS
    hello.machine.memory.poke(WORDS, bytes.fromhex("81ff0000 feffffff 8877665544332211"))
    return hello


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("0b1010 | 5", 15),
        ("6 & 3 ^ 1", 3),
        ("1 << 4 >> 2", 4),
        ("-7 / 2", -3 & MASK64),
        ("-7 % 2", -1 & MASK64),
        ("7 / 2", 3),
        ("~0", MASK64),
        ("!5 + !0", 1),
        ("1 < 2 == 1", 1),
        ("2 <= 1 || 3 != 4 && 1 > 0", 1),
        ("0 && *0xfffff000", 0),
        ("1 || *0xfffff000", 1),
        ("'a' + '\\n' + '\\x01'", 97 + 10 + 1),
        ("$bl", 0x81),
        ("$bh", 0),
        ("$ebx", 0x8000_0081),
        ("(i8)$bl", -127 & MASK64),
        ("(i8)$bl < 0", 1),
        ("$bl < 0x80", 0),
        ("(i64)$rbx < -1", 1),
        ("(u16)$rbx", 0x81),
        ("(unsigned char)$rbx", 0x81),
        ("(u32)$rbx >> 31", 1),
        ("(i32)$rbx >> 31", MASK64),
        ("*0x5008", 0x1122334455667788),
        ("u8[0x5000]", 0x81),
        ("i8[$rcx]", -127 & MASK64),
        ("{u16}$rcx", 0xFF81),
        ("{int}0x5004", -2 & MASK64),
        ("*(unsigned int *)($rcx + 4)", 0xFFFF_FFFE),
        ("*((u16 *)$rcx + 4)", 0x7788),
        ("((u32 *)$rcx)[2]", 0x55667788),
        ("$rcx[1]", 0x1122334455667788),
        ("(u32 *)0x5010 - (u32 *)$rcx", 4),
        ("&u32[0x5004]", 0x5004),
        ("&kmain - kmain", 0),
        ("$cpl", 0),
        ("$count", 0),
        ('"$rcx + 1"', WORDS + 1),
    ],
)
def test_an_expression_means_what_it_means_in_c(filled: Session, text: str, value: int) -> None:
    assert evaluate(filled, text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$rax < 0", "for a signed comparison write (i64)"),
        ("0 > $rax", "for a signed comparison write (i64)"),
        ("1 / 0", "division by 0"),
        ("1 << 64", "a shift by 64 bits"),
        ("$xmm0 + 1", "128 bits can be shown, but not computed with"),
        ("-$xmm0", "can be shown"),
        ("*(void *)1", "nothing of type void"),
        ("(void)1", "nothing of type void"),
        ("{kmain}1", "has to be a type"),
        ("&1", "have an address"),
        ("$nix", "no variable yet: `set $nix = VALUE`"),
        ("$1", "nothing has been printed yet"),
        ("'no such symbol'", "no symbol"),
        ("u32[1", "']' is missing"),
        ("5 - (u8 *)1", "cannot be subtracted"),
        ("(u8 *)1 + (u8 *)1", "only be subtracted"),
    ],
)
def test_what_has_no_value_is_said_in_one_line(filled: Session, text: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        evaluate(filled, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wide_register_is_shown_whole(filled: Session, table: CommandTable) -> None:
    table.execute(filled, "set $xmm1 = 5")
    assert evaluate_typed(filled, "$xmm1")[0] == 5
    assert str(table.execute(filled, "print/z $xmm1")) == f"$1 = 0x{5:032x}"


def test_the_history_and_variables_are_values_too(filled: Session, table: CommandTable) -> None:
    table.execute(filled, "print 7")
    table.execute(filled, "print (i8)$bl")
    assert [evaluate_typed(filled, text)[0] for text in ("$1", "$$", "$", "$$1", "$2")] == [7, 7, -127, 7, -127]
    assert "= 0x7 (7)" in str(table.execute(filled, "set $seven = $1"))
    assert evaluate(filled, "$seven * 2") == 14
    assert "$seven" in str(table.execute(filled, "show convenience"))
    assert "$2" in str(table.execute(filled, "show values"))


@pytest.mark.parametrize(
    ("line", "shown", "check", "value"),
    [
        ("set $al = 0xff", "$al = 0xff", "$rax", 0x1122_3344_5566_77FF),
        ("set $ah = 1", "$ah = 0x1", "$rax", 0x1122_3344_5566_0188),
        ("set $ax = -1", "$ax = 0xffff", "$rax", 0x1122_3344_5566_FFFF),
        ("set $eax = 5", "$eax = 0x5", "$rax", 5),
        ("set rax 6", "$rax = 0x6", "$rax", 6),
        ("set var $rax=$rcx+1", "$rax = 0x5001", "$rax", 0x5001),
        ("set {u16}0x5000 = 0x1234", "{u16}0x5000 = 0x1234", "u32[0x5000]", 0x1234),
        ("set u8[$rcx + 1] = -1", "{u8}0x5001 = 0xff", "u16[0x5000]", 0xFF81),
        ("set *(int *)$rcx = -2", "{i32}0x5000 = 0xfffffffe (-2)", "i32[0x5000]", MASK64 - 1),
        ("set *$rcx = 3 == 3", "{u64}0x5000 = 0x1", "*0x5000", 1),
    ],
)
def test_set_stores_to_registers_their_parts_and_memory(
    filled: Session, table: CommandTable, line: str, shown: str, check: str, value: int
) -> None:
    filled.machine.cpu.gpr[GPR.RAX] = 0x1122_3344_5566_7788
    assert str(table.execute(filled, line)).startswith(shown)
    assert evaluate(filled, check) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("set $al = 256", "does not fit into the 8 bits of al"),
        ("set {u16}0x5000 = 0x10000", "does not fit into the 16 bits"),
        ("set 5 = 6", "cannot be set"),
        ("set kmain = 6", "cannot be set"),
        ("set $count = 6", "cannot be set"),
        ("set {u8}0xfffff000 = 1", "not RAM"),
        ("set $cs = 5", "can only be loaded by the guest"),
        ("set $rax =", "write set WHAT = EXPRESSION"),
        ("set $rax", "write set WHAT = EXPRESSION"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(
    filled: Session, table: CommandTable, line: str, words: str
) -> None:
    before = filled.machine.cpu.gpr[GPR.RAX], filled.machine.memory.peek(WORDS, 16)
    with pytest.raises(CommandError) as caught:
        table.execute(filled, line)
    assert words in str(caught.value)
    assert (filled.machine.cpu.gpr[GPR.RAX], filled.machine.memory.peek(WORDS, 16)) == before


# -- the same value from the evaluator and from the bytecode that conditions are compiled from

ATOMS = st.sampled_from(
    ["0", "1", "7", "0x8000000000000000", "-1", "$rbx", "$rcx", "$bl", "(i8)$bl", "$ebx", "i16[$rcx]", "{u32}0x5004", "*$rcx"]
)
OPERATORS = st.sampled_from("+ - * & | ^ == != < <= > >= && ||".split())


def _combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(parts, OPERATORS, parts).map(lambda item: f"({item[0]} {item[1]} {item[2]})"),
        st.tuples(st.sampled_from(("-", "~", "!", "(i32)", "(u16)")), parts).map("".join),
        st.tuples(parts, st.sampled_from(("<< 3", ">> 5"))).map(lambda item: f"({item[0]} {item[1]})"),
    )


class _Agent:
    """Registers and memory for the bytecode's interpreter."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read_register(self, number: int) -> int:
        return GDB_REGISTERS[number].read(self._machine)

    def read_memory(self, address: int, length: int) -> bytes:
        return self._machine.memory.peek(address & MASK64, length)


MACHINE = Machine(MachineConfig(memory=4 << 20))
MACHINE.cpu.gpr[GPR.RBX] = 0xFFFF_FFFF_8000_0081
MACHINE.cpu.gpr[GPR.RCX] = WORDS
MACHINE.ram.bytes[WORDS : WORDS + 16] = bytes.fromhex("81ff0000feffffff8877665544332211")
VALUES = Values()


@settings(max_examples=300)
@given(st.recursive(ATOMS, _combined, max_leaves=8))
def test_bytecode_and_evaluation_agree(text: str) -> None:
    try:
        node = parse(text, Names(SymbolTable(), VALUES))
    except ExpressionError as error:
        assert "signed comparison" in str(error)
        return
    value = evaluate_node(node, MACHINE, VALUES)
    try:
        program = program_of(node)
    except NoBytecode:
        return
    assert run_bytecode(program, _Agent(MACHINE)) & MASK64 == value & MASK64  # type: ignore[arg-type]  # what it needs
