"""The report's pictures over time: what they say is what was recorded, and a browser draws it so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.bt.mechanisms import HIDDEN_FAULT, INTERRUPT, SLICE, TRANSLATION, Mechanism
from dbgvmm.cpu.bits import Vector
from dbgvmm.debug.symbols import Symbol, SymbolTable
from dbgvmm.profile.console_lines import ConsoleLine
from dbgvmm.profile.history import ModeChange, RunRecord, Stretch
from dbgvmm.profile.moments import GuestNanoseconds, InstructionCount, Moment
from dbgvmm.profile.who_ran import Runner
from dbgvmm.report import Section, machine_report, page
from dbgvmm.report.boot_timeline import boot_timeline, densities, lanes_of
from dbgvmm.report.ledger_chart import ledger_chart
from dbgvmm.report.ledger_series import ledger_layers, round_top, usual_top
from dbgvmm.report.milestones import APART, label, milestones
from dbgvmm.report.palette import GUEST, colour_of
from dbgvmm.report.time_axis import LEFT, RIGHT, WIDTH, TimeAxis, short
from tests.browser import Browser, Page, alike, chromium, colour

needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no chromium (Debian: chromium)")
MILLION = 1_000_000
HOSTILE = "</script><img src=x onerror='window.hacked=1'>\"'&\x07\x1b[2J\u202e]]>--><b>"


def moment(millions: int, ns: int, seconds: float, cells: dict[int, tuple[int, float]]) -> Moment:
    return Moment(InstructionCount(millions * MILLION), GuestNanoseconds(ns), seconds, 0, cells)


def line(count: int, text: str) -> ConsoleLine:
    return ConsoleLine(InstructionCount(count), GuestNanoseconds(count * 10), text)


POINTS = (
    moment(0, 0, 0.0, {}),
    # 40 ms: 20 of translated code, 10 of translation, 10 of 100 hidden faults.
    moment(2, 20_000_000, 0.040, {TRANSLATION: (50, 0.010), HIDDEN_FAULT: (100, 0.010)}),
    # 20 ms: 15 of translated code, 5 of 300 interrupts in 300 slices. Half of the guest's time it is halted.
    moment(4, 60_000_000, 0.060, {
        TRANSLATION: (50, 0.010), HIDDEN_FAULT: (100, 0.010), INTERRUPT: (300, 0.005), SLICE: (300, 0.0)
    }),
)  # fmt: skip
RECORD = RunRecord(
    POINTS,
    (line(0, "first"), line(1_000_000, "[    0.010000] second"), line(4_000_000, "last")),
    0,
    (ModeChange(InstructionCount(0), "protected mode"), ModeChange(InstructionCount(3 * MILLION), "long mode")),
    (Stretch(0, InstructionCount(0)),),
)
INTERVALS = TimeAxis(POINTS).intervals()


@pytest.fixture(scope="module")
def pagetables(guest: Callable[[str], Path]) -> Machine:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("pagetables"))
    machine.sampler.start(2_000)
    machine.run(max_count=5_000_000)
    return machine


def recorded(machine: Machine) -> RunRecord:
    assert machine.sampler.history is not None
    return machine.sampler.history.record()


# -- numbers


def test_layers_are_rates_and_their_sums() -> None:
    exits = {layer.name: (layer.values, layer.total) for layer in ledger_layers(INTERVALS, "exits")}
    assert exits == {"slice": ((0.0, 150.0), 300), "hidden": ((50.0, 0.0), 100)}, "work is no exit"
    host = {layer.name: layer.values for layer in ledger_layers(INTERVALS, "host")}
    assert host["translated code"] == pytest.approx((10, 7.5)) and host["interrupt"] == pytest.approx((0, 2.5))
    shares = {layer.name: layer.values for layer in ledger_layers(INTERVALS, "share")}
    assert shares["translated code"] == pytest.approx((0.5, 0.75)) and shares["hidden"] == pytest.approx((0.25, 0))


def test_layers_of_a_run_are_all_of_it(pagetables: Machine) -> None:
    intervals = TimeAxis(recorded(pagetables).points).intervals()
    exits = ledger_layers(intervals, "exits")
    ledger = pagetables.dispatcher.ledger
    assert sum(layer.total for layer in exits) == sum(ledger.count_of(each) for each in Mechanism if each.is_exit)
    assert exits[-1].name == "sample" and exits[-2].name == "others"
    host = ledger_layers(intervals, "host")
    assert sum(layer.total for layer in host) == pytest.approx(pagetables.seconds_total)
    shares = ledger_layers(intervals, "share")
    assert [sum(values) for values in zip(*(layer.values for layer in shares), strict=True)] == pytest.approx(
        [1.0] * len(intervals)
    )


def test_lanes_count_what_the_guest_and_the_monitor_did(pagetables: Machine) -> None:
    lanes = {lane.name: lane.total for lane in densities(TimeAxis(recorded(pagetables).points).intervals(), 10)}
    ledger = pagetables.dispatcher.ledger
    assert lanes["page faults"] == f"{ledger.exceptions[Vector.PF]:,}"
    assert lanes["CR3 writes"] == f"{ledger.count_of(Mechanism.CR3_SWITCH):,}"
    assert lanes["port accesses"] == f"{ledger.count_of(Mechanism.PORT):,}"
    assert "interrupts" not in lanes and "halted" not in lanes


def test_what_the_guest_waits_in_hlt_is_a_lane() -> None:
    (halted,) = [lane for lane in densities(INTERVALS, 10) if lane.name == "halted"]
    assert halted.amounts == pytest.approx((0, 0.5)) and halted.total == "20 ms"


def test_user_programs_have_lanes_beside_busier_kernel_threads() -> None:
    threads = [Runner(f"thread-{number}", 1, (1000 + number,), (0,)) for number in range(20)]
    programs = [Runner(f"program-{number}", 1, (5,), (number,)) for number in range(10)]
    names = [runner.name for runner in lanes_of([*programs, *threads], most=6)]
    assert names == ["program-9", "program-8", "thread-19", "thread-18", "thread-17", "thread-16"]
    assert len(lanes_of(threads[:3])) == 3 and lanes_of([]) == []


def test_a_few_outliers_do_not_flatten_the_picture() -> None:
    assert usual_top([1.0] * 99 + [1000.0]) == 1.25
    assert usual_top([1.0, 1.5, 2.0]) == 2.0
    assert [round_top(top) for top in (20, 1313, 0.9, 4e-9, 1.0)] == pytest.approx([20, 1600, 1, 4e-9, 1])
    assert usual_top([]) == usual_top([0.0]) == 1.0


def test_ticks_are_round_and_few() -> None:
    for end in (1, 7, 999, 700_631, 1_370_156_325):
        axis = TimeAxis((moment(0, 0, 0, {}), Moment(InstructionCount(end), GuestNanoseconds(end), 0.0, 0, {})))
        assert 1 <= len(axis.ticks()) <= 11 and axis.ticks()[0] == 0
    assert [short(value) for value in (0.25, 999, 999.9, 1500, 1_370_156_325)] == ["0.25", "999", "1k", "1.5k", "1.37G"]


def test_labels_do_not_overlap_and_one_stands_for_a_burst() -> None:
    counts = [0, *range(500, 520), 700, 701, 702, 900, *range(1000, 1100), 1400]
    lines = [line(count, f"[    1.{count:06}] line number {count}") for count in counts]
    found = milestones(lines, lambda count: count * 0.8, 0, 1200, rows=6)
    assert found[0].line is lines[0] and found[-1].line is lines[-1]
    labelled = {each.line.count for each in found}
    assert len(labelled & {700, 701, 702}) == 1 and 900 in labelled and len(labelled & {*range(500, 520)}) <= 2
    for one, other in combinations(found, 2):
        assert abs(one.x - other.x) >= APART
        apart = one.left + len(one.text) * 6 < other.left or other.left + len(other.text) * 6 < one.left
        assert one.row != other.row or apart


def test_a_label_is_a_line_without_the_kernels_own_time() -> None:
    assert label("[    0.000000] Linux version 6.1") == "Linux version 6.1"
    assert label("<6>[   12.345678][    T1] init: ready") == "init: ready"
    assert label("[ok]") == "[ok]" and label("-----") == ""
    assert len(label("x" * 500)) < 62


# -- drawn


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), 1300, 1000) as opened:
        yield opened


def shown(browser: Browser, file: Path, body: str, *, scripts: bool = True) -> Page:
    file.write_bytes(page("t", "s", [], [Section("it", "It", "", body)]))
    return browser.open(file, scripts=scripts)


def at(opened: Page, x: float, y: float) -> tuple[float, float]:
    """A place of the picture that is seen (x: part of the axis; y: pixels of the picture) in the window."""
    seen = "[...document.querySelectorAll('svg.time')].find(each => each.getBoundingClientRect().height)"
    left, top, scale = opened.evaluate(f"(r => [r.x, r.y, r.width / {WIDTH}])({seen}.getBoundingClientRect())")
    return left + (LEFT + (WIDTH - LEFT - RIGHT) * x) * scale, top + y * scale


def heights(part: float) -> float:
    """Pixels from the top of the ledger's picture."""
    return 16 + 280 * (1 - part)


@needs_browser
def test_the_ledger_is_stacked_areas_with_three_views(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path / "ledger.html", ledger_chart(RECORD))
    guest, hidden = colour(GUEST), colour(colour_of(Mechanism.HIDDEN_FAULT))
    interrupt, slices = colour(colour_of(Mechanism.INTERRUPT)), colour(colour_of(Mechanism.SLICE))

    def drawn(x: float, part: float) -> tuple[int, int, int]:
        return opened.pixel(*at(opened, x, heights(part)))

    def press(view: str) -> None:
        opened.click(*opened.middle(f"document.querySelector('button[data-view={view}]')"))

    assert alike(drawn(0.25, 0.45), guest) and alike(drawn(0.75, 0.70), guest), "share: half, then three quarters"
    assert not alike(drawn(0.25, 0.55), guest) and alike(drawn(0.75, 0.80), interrupt)
    assert alike(drawn(0.25, 0.85), hidden) or alike(drawn(0.25, 0.6), hidden)
    press("host")
    assert alike(drawn(0.25, 0.45), guest) and alike(drawn(0.75, 0.35), guest), "20 ms a million, then 10"
    assert alike(drawn(0.75, 0.45), interrupt) and not alike(drawn(0.75, 0.55), interrupt)
    press("exits")
    assert alike(drawn(0.75, 0.9), slices), "150 a million"
    assert alike(drawn(0.25, 0.3), hidden) and not alike(drawn(0.25, 0.36), hidden), "50"


@needs_browser
def test_the_ledger_tells_the_numbers_of_a_moment(browser: Browser, tmp_path: Path) -> None:
    opened = shown(browser, tmp_path / "ledger.html", ledger_chart(RECORD))
    readout = "document.querySelector('.readout').textContent"
    legend = "[...document.querySelectorAll('.view[data-view=share] .legend li')].map(each => each.textContent)"
    assert opened.evaluate(readout).strip() == ""
    opened.move(*at(opened, 0.75, 100))
    assert opened.evaluate(readout) == "2M to 4M instructions, guest's clock 20 ms to 60 ms"
    assert "translated code 35 ms 75%" in opened.evaluate(legend) and "interrupt 5 ms 25%" in opened.evaluate(legend)
    opened.move(*at(opened, 0.25, 100))
    assert "translated code 35 ms 50%" in opened.evaluate(legend) and "interrupt 5 ms" in opened.evaluate(legend)
    opened.move(2, 2)
    assert opened.evaluate(readout).strip() == "" and "translated code 35 ms" in opened.evaluate(legend)


@needs_browser
def test_the_timeline_draws_who_ran_and_what_happened(browser: Browser, tmp_path: Path) -> None:
    runners = (Runner("init-1", 1, (2 * MILLION, 0), (0, 0)), Runner("sh-7", 1, (0, 500_000), (0, 1_500_000)))
    opened = shown(browser, tmp_path / "timeline.html", boot_timeline(RECORD, runners, 10))
    kernel, user = colour("#f2a26b"), colour("#85b7de")

    def lane(name: str, x: float, part: float) -> tuple[int, int, int]:
        text = f"[...document.querySelectorAll('svg.time text')].find(each => each.firstChild.data === '{name}')"
        y = opened.evaluate(f"{text}.getAttribute('y')")
        return opened.pixel(*at(opened, x, float(y) - 13 + 18 * (1 - part)))

    assert alike(lane("init-1", 0.25, 0.9), kernel) and not alike(lane("init-1", 0.75, 0.1), kernel)
    assert alike(lane("sh-7", 0.75, 0.1), kernel) and alike(lane("sh-7", 0.75, 0.6), user)
    assert not alike(lane("sh-7", 0.25, 0.1), kernel)
    assert alike(lane("CPU mode", 0.5, 0.1), kernel) and alike(lane("CPU mode", 0.9, 0.1), user)
    assert alike(lane("interrupts", 0.75, 0.9), colour("#1f8fb4"))
    labels = opened.evaluate("[...document.querySelectorAll('.milestone')].map(each => each.firstChild.data)")
    assert labels == ["first", "second", "last"]
    assert opened.evaluate("document.querySelectorAll('details tbody tr').length") == 3
    opened.move(*at(opened, 0.75, 150))
    told = opened.evaluate("document.querySelector('.readout').textContent")
    assert told == (
        "2M to 4M instructions, guest's clock 20 ms to 60 ms · sh-7 100% · interrupts 150 per million · "
        "halted 50% of the guest's clock"
    )


@needs_browser
def test_without_scripts_the_pictures_are_there(browser: Browser, tmp_path: Path) -> None:
    body = ledger_chart(RECORD) + boot_timeline(RECORD, (), 10)
    opened = shown(browser, tmp_path / "still.html", body, scripts=False)
    picture = opened.screenshot(whole=True)
    colours = {pixel for _, pixel in picture.getcolors(1 << 20) or ()}
    for wanted in (GUEST, colour_of(Mechanism.TRANSLATION), "#5a6b3c"):
        assert colour(wanted) in colours


# -- hostile guests


@pytest.fixture(scope="module")
def hostile(guest: Callable[[str], Path]) -> Machine:
    """Its task, its symbols and what it prints are all as bad as can be."""
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("pagetables"))
    machine.symbols.add(SymbolTable([Symbol(HOSTILE, 0, 1 << 62, "code"), Symbol(HOSTILE, 1 << 63, (1 << 64) - 1, "code")]))
    machine.sampler.task = lambda: (1, HOSTILE)
    machine.sampler.start(2_000)
    machine.counters.start()
    machine.run(max_count=200_000)
    for observer in machine.serial.observers:
        observer(f"\n{HOSTILE}\n".encode())
    machine.run(max_count=300_000)
    return machine


def test_json_in_the_page_ends_no_script(hostile: Machine) -> None:
    text = machine_report(hostile).decode()
    assert "<img" not in text and "\u202e" not in text and "\x1b" not in text and "\x07" not in text
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    assert len(blocks) == 4
    told = json.loads(blocks[0])
    assert any("</script><img" in lane["name"] for lane in told["lanes"]), "it is there, as text"


@needs_browser
def test_a_hostile_guest_is_shown_and_not_obeyed(browser: Browser, hostile: Machine, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_bytes(machine_report(hostile))
    opened = browser.open(file)
    assert opened.evaluate("window.hacked === undefined && !document.querySelector('img')")
    assert opened.evaluate("[...document.querySelectorAll('section')].map(each => each.id)") == [
        "timeline", "ledger", "flame", "functions", "mix", "tc", "shadow"
    ]  # fmt: skip
    for where in ("#timeline details td:last-child", "#functions td:last-child", "#shadow .range title", "#tc title"):
        texts = f"[...document.querySelectorAll('{where}')].map(each => each.textContent)"
        assert any("</script><img src=x onerror='window.hacked=1'>\"'&" in text for text in opened.evaluate(texts)), where
    opened.move(*at(opened, 0.5, 200))
    assert "</script>" in opened.evaluate("document.querySelector('#timeline .readout').textContent")
    assert opened.evaluate("window.hacked === undefined && !document.querySelector('img')")
