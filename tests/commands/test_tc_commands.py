"""The translation cache as commands show it, with the numbers of our own guests."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dbgvmm import Machine
from dbgvmm.bt.history import UnitHistory
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.commands.parameters import Address, Count
from dbgvmm.commands.tc import tc, tc_history, tc_list
from dbgvmm.commands.tc_code import tc_graph, tc_search, tc_show
from dbgvmm.debug.inside.code import counting_range
from dbgvmm.debug.inside.dot import to_dot
from dbgvmm.debug.inside.liveness import decode_unit, live_flags
from dbgvmm.debug.inside.sites import NoUnit
from dbgvmm.debug.inside.view import view
from dbgvmm.debug.symbols import load_symbols

Booted = Callable[..., Machine]
ALL = Count(100_000)


@pytest.fixture
def ended(hello: Session, table: CommandTable) -> Session:
    """The guest `hello` after its last instruction."""
    table.execute(hello, "continue")
    return hello


def session(booted: Booted, guest: Callable[[str], Path], name: str, **options: object) -> Session:
    machine = booted(name, **options)
    return Session(machine, load_symbols(guest(name).with_suffix(".elf64")))


@pytest.fixture
def rewritten(booted: Booted, guest: Callable[[str], Path]) -> Session:
    """The guest `smc`, which rewrites its code, at its end."""
    found = session(booted, guest, "smc")
    found.machine.run()
    return found


def address(of: Session, name: str) -> Address:
    symbol = of.symbols.find(name)
    assert symbol is not None
    return Address(symbol.address)


# -- totals and lists


def test_the_totals_sum_up(rewritten: Session) -> None:
    totals = tc(rewritten).totals
    assert (totals.made, totals.dead) == (1190, 650)
    assert totals.live + totals.precise + totals.dead == totals.made
    assert totals.reasons == {
        "guest wrote its code": 488, "its page became data": 119, "a store in it kept hitting traces": 35,
        "a store in it hits no trace any more": 8,
    }  # fmt: skip
    assert sum(totals.reasons.values()) == totals.dead
    assert totals.asked > totals.missed > 0
    assert 2 < totals.expansion < 6
    assert "488 because: guest wrote its code" in str(tc(rewritten))


def test_the_old_names_still_work(ended: Session, table: CommandTable) -> None:
    assert str(table.execute(ended, "info tc")) == str(table.execute(ended, "tc"))
    assert str(table.execute(ended, "info tu kernel_entry")) == str(table.execute(ended, "tc show kernel_entry"))
    assert str(table.execute(ended, "tu kernel_entry")) == str(table.execute(ended, "tc show kernel_entry"))


def test_a_flush_is_a_reason_too(booted: Booted, guest: Callable[[str], Path]) -> None:
    found = session(booted, guest, "selftest", tc_pages=40)
    found.machine.run()
    totals = tc(found).totals
    assert totals.flushes > 0
    assert totals.reasons["the TC was flushed"] > 100
    assert totals.live + totals.precise + totals.dead + totals.reasons["the TC was flushed"] == totals.made


def test_a_list_is_chosen_by_symbol_range_frame_and_privilege(rewritten: Session) -> None:
    everything = tc_list(rewritten, most=ALL)
    assert everything.total == len(everything.units) == tc(rewritten).totals.live == 515
    kernel, user = tc_list(rewritten, kernel=True, most=ALL), tc_list(rewritten, user=True, most=ALL)
    assert (kernel.total, user.total) == (505, 10)
    kmain = tc_list(rewritten, symbol="kmain").units
    assert [unit.place.partition(" ")[2] for unit in kmain] == [
        "<kmain>", "<kmain+0x12>", "<kmain+0x17>", "<kmain+0x1c>", "<kmain+0x21>", "<kmain+0x26>"
    ]  # fmt: skip
    (at,) = tc_list(rewritten, address(rewritten, "kmain")).units
    assert at == kmain[0]
    assert at.unit.born == 3_123
    frame = Address(at.unit.frames[0] << 12)
    assert all(at.unit.frames[0] in unit.unit.frames for unit in tc_list(rewritten, frame=frame, most=ALL).units)


def test_a_list_is_sorted(rewritten: Session) -> None:
    sizes = [unit.unit.tc_size for unit in tc_list(rewritten, sort="size", most=ALL).units]
    assert sizes == sorted(sizes, reverse=True)
    ages = [unit.unit.born for unit in tc_list(rewritten, sort="age", most=ALL).units]
    assert ages == sorted(ages)
    ways = [unit.unit.ways_out - unit.unit.linked for unit in tc_list(rewritten, sort="exits", most=ALL).units]
    assert ways == sorted(ways, reverse=True)
    assert "more: --most says" in str(tc_list(rewritten, most=Count(3)))


def test_hits_are_exact_once_executions_are_counted(booted: Booted, guest: Callable[[str], Path], table: CommandTable) -> None:
    found = session(booted, guest, "cpubound-small")
    table.execute(found, "counters start")
    found.machine.run(max_count=3_000_000)
    listed = tc_list(found, sort="hits", most=ALL).units
    by_counters: Counter[tuple[int, int]] = Counter()
    for unit in found.machine.counters.counts().units:
        by_counters[unit.address, unit.size] += unit.entries
    assert [unit.unit.hits for unit in listed] == sorted((unit.unit.hits or 0 for unit in listed), reverse=True)
    assert (listed[0].unit.hits or 0) > 10_000
    assert all(unit.unit.hits == by_counters[unit.unit.address, unit.unit.guest_size] for unit in listed)


def test_exits_are_counted_where_places_are_kept(rewritten: Session, booted: Booted, guest: Callable[[str], Path],
                                                 table: CommandTable) -> None:  # fmt: skip
    assert tc_list(rewritten).units[0].unit.exits is None
    found = session(booted, guest, "smc")
    table.execute(found, "exits record on")
    found.machine.run()
    first = tc_list(found, sort="exits").units[0]
    assert (first.unit.exits or 0) > 100


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tc list --symbol nothing", "no symbol 'nothing'"),
        ("tc list rip --symbol kmain", "not both"),
        ("tc list 0x2000 0x1000", "the lower address first"),
        ("tc list --user --kernel", "leave both away"),
        ("tc list --dead --frame 0x1000", "leave --frame away"),
        ("tc show 0x1234", "has not been translated"),
        ("tc show 0xff10000000f00000", "no translation unit at TC address"),
        ("tc history 0x1234", "no translation unit began"),
        ("tc search", "say what to search"),
        ("tc search mov --bytes c3", "say what to search"),
        ("tc search --bytes xyz", "pairs of hexadecimal digits"),
        ("tc graph 0x1234", "in no function that is known"),
        ("tc graph 0x1234 0x1240", "has not run"),
        ("tc graph kernel_entry --dot /nowhere/graph.dot", "give another file name"),
    ],
)
def test_what_is_asked_wrongly_is_answered_in_one_line(ended: Session, table: CommandTable, line: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as raised:
        table.execute(ended, line)
    assert "\n" not in str(raised.value)


# -- the dead


def test_the_dead_are_remembered_with_reason_time_and_culprit(rewritten: Session) -> None:
    dead = tc_list(rewritten, dead=True, most=ALL)
    assert (dead.total, dead.forgotten) == (650, 0)
    assert all(unit.unit.born <= unit.unit.died for unit in dead.units)
    patched = tc_history(rewritten, address(rewritten, "user_patch_next"))
    assert [(unit.unit.died, unit.by_place) for unit in patched.units] == [
        (139_885, "0x400000 <user_patch_next>"), (140_712, "0x400000 <user_patch_next>"),
        (141_539, "0x400000 <user_patch_next>"),
    ]  # fmt: skip
    assert "guest wrote its code by 0x400000 <user_patch_next>" in str(patched)


def test_a_breakpoint_kills_and_history_says_so(ended: Session, table: CommandTable) -> None:
    table.execute(ended, "break kernel_entry")
    (unit,) = tc_history(ended, address(ended, "kernel_entry")).units
    assert (unit.unit.why, unit.unit.live) == ("breakpoint", False)
    with pytest.raises(CommandError, match="no translation unit any more: breakpoint, after"):
        tc_show(ended, address(ended, "kernel_entry"))


def test_the_ring_of_the_dead_forgets_the_oldest_and_says_so(
    rewritten: Session, booted: Booted, guest: Callable[[str], Path]
) -> None:
    found = session(booted, guest, "smc")
    found.machine.cache.history = UnitHistory(limit=100)
    found.machine.run()
    dead = tc_list(found, dead=True, most=ALL)
    assert (dead.total, dead.forgotten) == (100, 550)
    assert found.machine.cache.history.dead == rewritten.machine.cache.history.dead[-100:]
    assert "550 more have died" in str(dead)


# -- one unit


def test_show_marks_each_instruction(ended: Session) -> None:
    report = tc_show(ended, address(ended, "kernel_entry"))
    marks = [(item.line.mnemonic, item.mark) for item in report.view.instructions]
    assert marks == [("mov", "IDENT"), ("mov", "IDENT"), ("mov", "IDENT"), ("xor", "IDENT"), ("call", "edge")]
    (counts,) = [item for item in report.view.instructions if item.counts]
    assert (counts.line.mnemonic, counts.flags_dead, counts.live) == ("xor", True, "")
    assert report.view.instructions[0].live == ""
    assert report.view.instructions[-1].live == "OSZAPC"
    assert tc_show(ended, Address(report.view.unit.tc_start + 1)).view.unit == report.view.unit


def test_show_knows_what_is_emulated_rewritten_and_carried_out(rewritten: Session, booted: Booted,
                                                                guest: Callable[[str], Path]) -> None:  # fmt: skip
    found = session(booted, guest, "selftest")
    found.machine.run()
    marks: dict[str, set[str]] = {}
    for unit in found.machine.cache.units():
        for item in view(found.machine, unit).instructions:
            marks.setdefault(item.line.mnemonic, set()).add(item.mark)
    assert marks["cpuid"] == marks["wrmsr"] == {"callout"}
    assert marks["ret"] == {"indirect"}
    assert marks["je"] == {"edge"}
    assert marks["popfq"] == {"in-TC"}
    assert "in-TC" in marks["pushfq"]
    assert marks["cli"] == {"IDENT"}
    assert marks["sti"] == {"in-TC"}
    assert {"IDENT", "rewritten"} <= marks["mov"], "copied, or relative to RIP"
    guilty = [
        item for unit in rewritten.machine.cache.units() for item in view(rewritten.machine, unit).instructions if item.guilty
    ]
    assert guilty
    assert {item.mark for item in guilty} == {"callout"}


def test_every_unit_counts_itself_once_and_says_where(rewritten: Session) -> None:
    machine = rewritten.machine
    for unit in machine.cache.units():
        shown = view(machine, unit)
        assert sum(item.counts for item in shown.instructions) == 1
        index = next(number for number, item in enumerate(shown.instructions) if item.counts)
        assert index == unit.count_index
        assert not shown.instructions[index].flags_dead or shown.instructions[index].live == ""
        assert counting_range(unit).stop == unit.resume_at
        lines = [line for item in shown.instructions for line in item.translated] + list(shown.stubs)
        assert sum(len(line.code) for line in lines) == unit.tc_end - unit.tc_start


def test_liveness_of_flags_is_what_reads_and_writes_make_it() -> None:
    from dbgvmm.bt.units import CodePage, TranslationUnit

    unit = TranslationUnit(0x1000, CodePage(0x1000, (), False, False))
    # inc eax (writes all but CF); cmp eax, ebx; sete cl; adc eax, 1; mov eax, ebx; test eax, eax; nop
    unit.guest_bytes = bytes.fromhex("ffc0 39d8 0f94c1 83d001 89d8 85c0 90")
    live = live_flags(decode_unit(unit))
    assert live == ["", "", "ZC", "C", "", "", "OSZAPC"]


def test_chains_are_shown_both_ways(ended: Session) -> None:
    report = tc_show(ended, address(ended, "kmain")).view
    assert any("kernel_entry" in place for place in report.entered_from)
    back = tc_show(ended, address(ended, "kernel_entry")).view
    assert any("<kmain>" in place for place in back.chained_to)


def test_a_unit_that_vanishes_while_it_is_looked_at_is_one_clear_line(ended: Session) -> None:
    machine = ended.machine
    unit = next(unit for unit in machine.cache.units() if unit.guest_rip == address(ended, "kernel_entry"))
    machine.cache.flush()
    assert not unit.live
    with pytest.raises(NoUnit, match="is gone: the TC was flushed"):
        view(machine, unit)
    with pytest.raises(CommandError, match="no translation unit at TC address"):
        tc_show(ended, Address(unit.tc_start))
    with pytest.raises(CommandError, match="any more: the TC was flushed"):
        tc_show(ended, address(ended, "kernel_entry"))
    assert machine.run().kind.final


# -- search and graph


def test_search_finds_by_mnemonic_operands_and_bytes(rewritten: Session) -> None:
    found = tc_search(rewritten, "mov", "cr3").matches
    assert len(found) == 6
    assert all("cr3" in match.text for match in found)
    loads = tc_search(rewritten, bytes="0f22d8").matches
    assert {match.text for match in loads} == {"mov cr3, rax"}
    assert len(loads) == 4
    assert tc_search(rewritten, "*", "cr3").matches == found
    assert tc_search(rewritten, "ret", most=Count(2)).cut
    assert str(tc_search(rewritten, "vmcall")) == "no translated instruction is like that"


def test_a_graph_has_units_branches_and_the_code(ended: Session, tmp_path: Path) -> None:
    report = tc_graph(ended, address(ended, "kmain"), dot=tmp_path / "kmain.dot")
    graph = report.graph
    units = [node for node in graph.nodes if node.kind == "unit"]
    assert len(units) == graph.units == tc_list(ended, symbol="kmain").total
    calls = {edge.target for edge in graph.edges if edge.label == "call"}
    assert any("console_init" in node.title for node in graph.nodes if node.key in calls)
    assert {edge.source for edge in graph.edges} <= {node.key for node in graph.nodes}
    text = (tmp_path / "kmain.dot").read_text()
    assert text == to_dot(graph)
    assert text.startswith('digraph "kmain" {')
    assert text.count(" -> ") == len(graph.edges)
    assert "[edge]" in text
    assert report.written == (str(tmp_path / "kmain.dot"),)


def test_what_is_not_chained_is_dashed(booted: Booted, guest: Callable[[str], Path]) -> None:
    found = session(booted, guest, "cpubound-small")
    found.machine.run(max_count=3_000_000)
    units = [unit for unit in found.machine.cache.units() if any(edge.target is None for edge in unit.edges)]
    name = found.symbols.at(units[0].guest_rip)
    assert name is not None
    text = to_dot(tc_graph(found, Address(name[0].address)).graph)
    assert "style=dashed" in text
    assert "style=solid" in text


def test_a_counted_call_through_a_pointer_leads_to_what_it_has_called(booted: Booted, guest: Callable[[str], Path]) -> None:
    found = session(booted, guest, "cpubound-small")
    found.machine.counters.start()
    found.machine.run()
    graph = tc_graph(found, address(found, "run_sort")).graph
    titles = {node.key: node.title for node in graph.nodes}
    edges = [edge for edge in graph.edges if edge.times is not None]
    times = {titles[edge.target].partition("<")[2].rstrip(">"): edge.times for edge in edges}
    counts = found.machine.counters.counts()
    assert times.keys() == {"ascending", "descending", "by_low_half"}
    assert times == {name: counts.at(found.symbols[name].address) for name in times}
    assert {edge.label for edge in edges} == {"call"}
    assert not any(edge.source == edges[0].source and edge.target == "lookups" for edge in graph.edges)
    assert f'label="call, {times["ascending"]:,} times"' in to_dot(graph)


def test_calls_that_are_not_told_apart_lead_to_the_lookup_table(booted: Booted, guest: Callable[[str], Path]) -> None:
    found = session(booted, guest, "exceptions")
    found.machine.counters.start()
    found.machine.run()
    edges = tc_graph(found, address(found, "catch_call")).graph.edges
    source = next(edge.source for edge in edges if edge.times is not None)
    assert any(edge.source == source and edge.target == "lookups" for edge in edges)


def test_without_counts_it_leads_to_the_lookup_table(booted: Booted, guest: Callable[[str], Path]) -> None:
    found = session(booted, guest, "cpubound-small")
    found.machine.run()
    graph = tc_graph(found, Address(found.symbols["run_sort"].address)).graph
    assert any(edge.target == "lookups" and edge.label == "call" for edge in graph.edges)
    assert not any(edge.times for edge in graph.edges)


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_every_node(ended: Session, tmp_path: Path) -> None:
    graph = tc_graph(ended, address(ended, "kmain"), svg=tmp_path / "kmain.svg").graph
    drawn = ET.parse(tmp_path / "kmain.svg").getroot()
    classes = [item.get("class") for item in drawn.iter("{http://www.w3.org/2000/svg}g")]
    assert classes.count("node") == len(graph.nodes)
    assert classes.count("edge") == len(graph.edges)


def test_without_graphviz_one_line_says_what_to_do(ended: Session, table: CommandTable, monkeypatch: pytest.MonkeyPatch,
                                                   tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="install the package graphviz, or write the graph with --dot"):
        table.execute(ended, f"tc graph kmain --svg {tmp_path}/graph.svg")


def test_looking_changes_nothing(booted: Booted, guest: Callable[[str], Path], table: CommandTable) -> None:
    looked, plain = session(booted, guest, "smc"), session(booted, guest, "smc")
    for count in (50_000, 100_000, 140_000):
        looked.machine.run(max_count=count)
        for line in ("tc", "tc list", "tc list --dead", "tc search mov", "tc show kmain", "tc graph kmain", "tc history kmain"):
            str(table.execute(looked, line))
        plain.machine.run(max_count=count)
        assert bytes(looked.machine.ram.bytes) == bytes(plain.machine.ram.bytes)
    assert (looked.machine.run(), looked.machine.count) == (plain.machine.run(), plain.machine.count)
