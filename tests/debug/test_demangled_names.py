"""Names of C++ and Rust: shown as their programmers write them, found as that and as they are in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbgvmm.commands import CommandTable, Session
from dbgvmm.commands.expression import complete_expression, evaluate
from dbgvmm.debug.symbols import load_symbols
from dbgvmm.debug.symbols.demangled import readable, without_parameters

LIST = """\
0000000000200000 T _ZN6kernel4main17h0123456789abcdefE
0000000000200100 T _RNvCs1234_7mycrate3foo
0000000000200200 T _ZN50_$LT$T$u20$as$u20$core..convert..From$LT$T$GT$$GT$4from17h2222222222222222E
0000000000200300 T _ZN6Kernel6Thread4exitEPv
0000000000200400 T _ZN6Kernel6Thread4exitEi
0000000000200500 T _ZNK2AK6StringeqERKS0_
0000000000200600 D _ZTV6Kernel
0000000000200700 T _Zebra_crossing
0000000000200800 T plain
0000000000200900 T end
"""


@pytest.fixture
def session(hello: Session, tmp_path: Path) -> Session:
    (tmp_path / "names.txt").write_text(LIST)
    hello.symbols.add(load_symbols(tmp_path / "names.txt"))
    return hello


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0x200000, "kernel::main"),
        (0x200100, "mycrate::foo"),
        (0x200200, "<T as core::convert::From<T>>::from"),
        (0x200300, "Kernel::Thread::exit(void*)"),
        (0x200400, "Kernel::Thread::exit(int)"),
        (0x200500, "AK::String::operator==(AK::String const&) const"),
        (0x200600, "vtable for Kernel"),
        (0x200700, "_Zebra_crossing"),
        (0x200800, "plain"),
    ],
)
def test_an_address_has_the_name_that_the_source_has(session: Session, address: int, name: str) -> None:
    assert session.symbols.describe(address) == name
    assert session.symbols.describe(address + 4) == f"{name}+0x4"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("kernel::main", 0x200000),
        ("kernel::main + 4", 0x200004),
        ("mycrate::foo", 0x200100),
        ("'<T as core::convert::From<T>>::from'", 0x200200),
        ("Kernel::Thread::exit", 0x200300),
        ("'Kernel::Thread::exit(int)' + 1", 0x200401),
        ("'AK::String::operator=='", 0x200500),
        ("_ZN6kernel4main17h0123456789abcdefE", 0x200000),
        ("_ZN6Kernel6Thread4exitEi", 0x200400),
        ("_Zebra_crossing", 0x200700),
    ],
)
def test_a_symbol_is_found_by_each_of_its_names(session: Session, text: str, address: int) -> None:
    assert evaluate(session, text) == address


def test_a_breakpoint_is_set_and_listed_by_the_readable_name(session: Session, table: CommandTable) -> None:
    assert "at 0x200000 <kernel::main>" in str(table.execute(session, "break kernel::main"))
    assert "mycrate::foo" in str(table.execute(session, "info functions ^mycrate"))


def test_names_complete_as_they_can_be_typed(session: Session) -> None:
    assert complete_expression(session, "kernel::m") == ["kernel::main"]
    assert complete_expression(session, "8 + mycr") == ["8 + mycrate::foo"]
    assert complete_expression(session, "Kernel::Thread::e") == [
        "Kernel::Thread::exit", "'Kernel::Thread::exit(int)'", "'Kernel::Thread::exit(void*)'",
    ]  # fmt: skip
    assert complete_expression(session, "'<T as c") == ["'<T as core::convert::From<T>>::from'"]
    assert complete_expression(session, "_ZN6kern") == ["_ZN6kernel4main17h0123456789abcdefE"]
    assert complete_expression(session, "_Z") == sorted(name for name in complete_expression(session, "_Z"))
    assert not any(name.startswith("_ZN") for name in complete_expression(session, "_"))
    for name in complete_expression(session, "Kernel::"):
        evaluate(session, name)


def test_a_name_with_blanks_completes_behind_an_open_quote(session: Session, table: CommandTable) -> None:
    assert table.complete(session, "break '<T as c") == ["'<T as core::convert::From<T>>::from'"]
    name = "'AK::String::operator==(AK::String const&) const'"
    assert table.complete(session, f"x/4i {name[:30]}") == table.complete(session, f"print 8 + {name[:36]}") == [name]


def test_symbols_are_counted_once(session: Session, tmp_path: Path) -> None:
    assert len(load_symbols(tmp_path / "names.txt")) == len(LIST.splitlines())


@pytest.mark.parametrize(
    ("name", "shorter"),
    [
        ("f(int)", "f"),
        ("A::f(void (*)(int)) const", "A::f"),
        ("A::operator()(int)", "A::operator()"),
        ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
        ("vtable for A", "vtable for A"),
        ("operator()", "operator()"),
        (")", ")"),
    ],
)
def test_parameters_are_what_the_last_brackets_hold(name: str, shorter: str) -> None:
    assert without_parameters(name) == shorter


@pytest.mark.parametrize("name", ["_Z", "_R", "_ZN", "_Z1", "_Zé", "_ZN9999999999999", "_RNv" * 200, "__Z3", "_Z" + "N" * 5000])
def test_what_is_no_mangled_name_stays_as_it_is(name: str) -> None:
    assert readable(name) == name
