"""A system is looked for when somebody asks, remembered while it is there, and its names are the machine's meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dbgvmm import Machine
from dbgvmm.debug.symbols import Symbol, SymbolSource, SymbolTable
from dbgvmm.debug.unwind import Base, Registers, Rule, RuleMethod, StackMemory, UnwindMethod
from dbgvmm.guest_os import GuestMachine, GuestOs, GuestOsError, OsFinder, SystemSymbols
from dbgvmm.guest_os.linux.kallsyms import Kallsyms
from dbgvmm.guest_os.linux.names import NameTable


class Outermost(RuleMethod):
    name = "toy"

    def rule(self, frame: Registers, stack: StackMemory) -> Rule | None:
        return Rule(Base.OUTERMOST)


class Toy(GuestOs):
    """There while `here` says so."""

    name = "Toy"
    version = "1"
    here = True

    def __init__(self) -> None:
        self.table = SymbolTable([Symbol("toy_main", 0x5000, 0x6000, "code")])

    def present(self) -> bool:
        return self.here

    def symbol_sources(self) -> Sequence[SymbolSource]:
        return (self.table,)

    def unwind_method(self) -> UnwindMethod:
        return Outermost()


class Detector:
    """Counts how often it is asked."""

    def __init__(self, found: Toy | GuestOsError | None) -> None:
        self.found = found
        self.asked = 0

    def __call__(self, machine: GuestMachine) -> GuestOs | None:
        self.asked += 1
        if isinstance(self.found, GuestOsError):
            raise self.found
        return self.found


@pytest.fixture
def machine(booted: Callable[..., Machine]) -> Machine:
    return booted("hello")


def test_it_is_looked_for_once_and_its_names_are_known(machine: Machine) -> None:
    toy, nobody = Detector(Toy()), Detector(None)
    finder = OsFinder(machine, (nobody, toy))
    assert finder.known() is None
    assert (toy.asked, nobody.asked) == (0, 0)
    assert finder.current() is finder.current() is toy.found
    assert (toy.asked, nobody.asked) == (1, 1)
    assert machine.symbols.describe(0x5004) == "toy_main+0x4"


def test_what_has_gone_is_forgotten_with_its_names_and_callers(machine: Machine) -> None:
    machine.breakpoints.add(0x106000)  # kmain, in 64-bit mode
    machine.run()
    system = Toy()
    detector = Detector(system)
    finder = OsFinder(machine, (detector,))
    finder.current()
    assert machine.unwinder.frames().end == "the outermost frame"
    system.here = False
    detector.found = None
    with pytest.raises(GuestOsError, match="no operating system"):
        finder.current()
    assert machine.symbols.find("toy_main") is None
    assert machine.unwinder.frames().end != "the outermost frame"


def test_a_name_that_nobody_knows_is_looked_for_in_the_guests_system(machine: Machine) -> None:
    detector = Detector(Toy())
    symbols = SystemSymbols(machine.symbols, OsFinder(machine, (detector,)), lambda name: name == "rax")
    assert symbols.find("rax") is None
    assert detector.asked == 0
    assert symbols.lookup("toy_main") == 0x5000
    assert symbols.find("nothing") is None
    assert detector.asked == 1


def test_a_kernels_rust_names_are_found_as_they_are_shown() -> None:
    mangled = "_RNvCs1234_7mycrate3foo"
    table = NameTable(Kallsyms([mangled, "_Zebra"], "TT", [1 << 63, (1 << 63) + 16]), "kallsyms", (1 << 63) + 32)
    found = table.at((1 << 63) + 4)
    assert found is not None and found[0].name == "mycrate::foo"
    assert table.find("mycrate::foo") == table.find(mangled) == found[0]
    assert table.starting_with("mycr") == ["mycrate::foo"]
    assert table.starting_with("_Z") == ["_Zebra"]


def test_a_name_is_completed_by_the_guests_system(machine: Machine) -> None:
    detector = Detector(Toy())
    symbols = SystemSymbols(machine.symbols, OsFinder(machine, (detector,)), lambda name: name == "rax")
    assert symbols.starting_with("toy") == ["toy_main"]
    assert symbols.starting_with("nothing") == []
    assert detector.asked == 1


def test_what_was_not_found_is_not_looked_for_again_before_the_guest_has_run(machine: Machine) -> None:
    detector = Detector(GuestOsError("too early"))
    finder = OsFinder(machine, (detector,))
    assert [finder.recognise(), finder.recognise()] == [False, False]
    assert detector.asked == 1
    machine.step()
    assert not finder.recognise()
    assert detector.asked == 2


def test_what_a_system_has_not_overridden_it_cannot_do() -> None:
    abilities = Toy().abilities()
    assert [name for name, problem in abilities.items() if not problem] == ["symbols", "unwind"]
    with pytest.raises(GuestOsError, match="Toy has no modules"):
        Toy().modules()
