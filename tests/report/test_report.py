"""The report: what its maps say is what the machine has, and a browser draws it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.commands import CommandError, CommandTable, Session
from dbgvmm.debug.symbols import Symbols, load_symbols
from dbgvmm.mmu.inspect import ShadowRange
from dbgvmm.profile.functions import function_profile
from dbgvmm.report import Fact, Section, machine_report, page
from dbgvmm.report.regions import Region, known_regions, without_overlaps
from dbgvmm.report.shadow_map import MappedSpace, mapped_areas, shadow_maps
from dbgvmm.report.tc_map import TcPageInfo, TcPart, tc_map, tc_parts
from dbgvmm.report.treemap import Box, squarified
from tests.browser import Browser, alike, chromium, colour

needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no chromium (Debian: chromium)")


@pytest.fixture(scope="module")
def machine(guest: Callable[[str], Path]) -> Machine:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("pagetables"))
    machine.symbols.add(load_symbols(guest("pagetables").with_suffix(".elf64")))
    machine.sampler.start(2_000)
    machine.run(max_count=1_000_000)
    return machine


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


class Balance(HTMLParser):
    """Checks that every element is closed in its order."""

    VOID = frozenset(("meta", "link", "br", "input"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attributes if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file_with_all_sections(machine: Machine) -> None:
    text = machine_report(machine).decode()
    reader = Balance()
    reader.feed(text)
    assert not reader.open
    assert {"timeline", "ledger", "flame", "functions", "tc", "shadow"} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert not re.search(r"(src|href)=\"(?!#)", text) and "@import" not in text
    assert f"{machine.count:,}" in text


def test_hostile_text_is_text() -> None:
    text = page("<b>&", 'a"<i>', [Fact("<u>", "]]><script>")], [Section("x", "<h1>", "<p>", "")]).decode()
    assert "<b>" not in text and "<i>" not in text and "<u>" not in text and "<script>" in text
    assert text.count("<script>") == 1


def test_without_samples_there_is_no_flame_graph(guest: Callable[[str], Path]) -> None:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("hello"))
    machine.run()
    assert b'id="flame"' not in machine_report(machine)


def test_the_tc_map_has_every_page_of_the_cache(machine: Machine) -> None:
    parts = tc_parts(machine.cache, machine.symbols)
    pages = [info for part in parts for info in part.pages]
    assert sorted(info.index for info in pages) == sorted(machine.cache.tc_pages)
    units = list(machine.cache.units())
    assert sum(info.units for info in pages) >= len(units)
    assert sum(info.used for info in pages) >= sum(unit.tc_end - unit.tc_start for unit in units)
    assert {info.kind for info in pages} == {"kernel", "user", "monitor"}


def test_where_executions_were_counted_the_map_is_of_them(guest: Callable[[str], Path]) -> None:
    machine = Machine(MachineConfig(memory=64 << 20))
    machine.boot(guest("cpubound-small"))
    machine.symbols.add(load_symbols(guest("cpubound-small").with_suffix(".elf64")))
    machine.counters.start()
    machine.run()
    counts = machine.counters.counts()
    parts = tc_parts(machine.cache, machine.symbols, counts)
    pages = [info for part in parts for info in part.pages if info.executed is not None]
    assert 0.99 * counts.total < sum(info.executed or 0 for info in pages) <= counts.total, "but for what ran once"
    hottest = max(pages, key=lambda info: info.executed or 0)
    functions = function_profile(counts, machine.symbols).functions.values()
    assert max(functions, key=lambda function: function.instructions).name in hottest.functions
    cells = re.findall(r'<rect class="cell kernel"[^>]*fill-opacity="([0-9.]+)"><title>([^<]*)', tc_map(parts))
    strongest = max(cells, key=lambda cell: float(cell[0]))
    assert strongest[0] == "1.00" and f"{hottest.executed:,} instructions executed" in strongest[1]


def test_regions_are_named_by_what_the_guest_says(machine: Machine, guest: Callable[[str], Path]) -> None:
    symbols = machine.symbols
    assert known_regions(machine) == (Region(symbols["text_start"].address, symbols["kernel_end"].address, "kernel image"),)
    unknown = Machine(MachineConfig(memory=64 << 20))
    unknown.boot(guest("pagetables"))
    unknown.run(max_count=100_000)
    assert known_regions(unknown) == (), "without symbols nothing is known"


def test_a_region_that_overlaps_another_is_left_out() -> None:
    regions = [Region(10, 20, "a"), Region(15, 30, "b"), Region(20, 25, "c"), Region(40, 40, "d"), Region(0, 5, "e")]
    assert [region.name for region in without_overlaps(regions)] == ["e", "a", "c"]


def test_the_shadow_map_has_every_range_and_every_trace() -> None:
    ranges = [
        ShadowRange(0x1000, 0x3000, 0x5000, False, True, False),
        ShadowRange(0x3000, 0x4000, None, True, True, False),
        ShadowRange(0xFFFF_8000_0000_0000, 0xFFFF_8000_4000_0000, 0, True, False, False),
    ]
    areas = mapped_areas(ranges, {5, 6, 9}, Symbols())
    assert [[each.range for each in area.ranges] for area in areas] == [ranges[:2], ranges[2:]]
    assert [each.traced for area in areas for each in area.ranges] == [2, 0, 3]
    text = shadow_maps([MappedSpace("one", areas)])
    assert text.count('class="group"') == 2 and text.count('class="cell') == 3 and text.count(' traced"') == 2


def test_a_treemap_fills_its_box_in_proportion() -> None:
    weights = [8.0, 1.0, 4.0, 2.0, 1.0]
    boxes = squarified(weights, Box(10, 20, 400, 300))
    for weight, box in zip(weights, boxes, strict=True):
        assert box.width * box.height == pytest.approx(400 * 300 * weight / 16)
        assert box.x >= 10 - 1e-6 and box.x + box.width <= 410 + 1e-6
        assert box.y >= 20 - 1e-6 and box.y + box.height <= 320 + 1e-6
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across < 1e-6 or down < 1e-6, "two overlap"


def test_a_treemap_of_nothing_is_nothing() -> None:
    assert squarified([], Box(0, 0, 1, 1)) == []


@needs_browser
@pytest.mark.parametrize(("scheme", "kernel"), [("light", "#f2a26b"), ("dark", "#c97a43")])
def test_a_cell_is_drawn_in_its_colour(browser: Browser, tmp_path: Path, scheme: str, kernel: str) -> None:
    part = TcPart("all", 0, 200, (TcPageInfo(3, "kernel", 0x1000, ("f",), 9, 4096),))
    file = tmp_path / "map.html"
    file.write_bytes(page("t", "s", [], [Section("tc", "TC", "", tc_map((part,)))]))
    shown = browser.open(file, scheme)  # type: ignore[arg-type]  # light or dark
    free, page_3, behind = (shown.middle(f"document.querySelectorAll('.cell')[{at}]") for at in range(3))
    assert alike(shown.pixel(*page_3), colour(kernel))
    assert not alike(shown.pixel(*free), colour(kernel)) and not alike(shown.pixel(*behind), colour(kernel))


def shadow_page(file: Path, *spaces: MappedSpace) -> Path:
    file.write_bytes(page("t", "s", [], [Section("shadow", "S", "", shadow_maps(spaces))]))
    return file


@needs_browser
def test_an_area_of_the_shadow_map_is_enlarged_by_a_click(browser: Browser, tmp_path: Path) -> None:
    far = 1 << 40
    ranges = [ShadowRange(0, 0x1000, 0, True, True, False), ShadowRange(far, far + 0x1000, 0, True, False, False)]
    space = MappedSpace("one", mapped_areas(ranges, (), Symbols(), [Region(far, far + 0x2000, "its heap")]))
    shown = browser.open(shadow_page(tmp_path / "map.html", space))
    user, kernel = colour("#85b7de"), colour("#f2a26b")
    x, y, width, height = shown.evaluate(
        "(r => [r.x, r.y, r.width, r.height])(document.querySelector('svg.map').getBoundingClientRect())"
    )
    left, right = (x + width / 4, y + height / 2), (x + width * 3 / 4, y + height / 2)
    crumb = "document.querySelector('.crumbs span').textContent"

    def both() -> tuple[bool, bool]:
        shown.move(5, 5)
        return alike(shown.pixel(*left), kernel), alike(shown.pixel(*right), kernel)

    assert alike(shown.pixel(*left), user) and both() == (False, True)
    assert shown.evaluate(crumb) == ""
    shown.click(*right)
    assert both() == (True, True), "it has the whole picture"
    assert shown.evaluate(crumb).startswith(" \u203a its heap: 0x10000000000 to 0x10000000fff")
    shown.click(*left)
    assert both() == (False, True), "the next click goes back"
    shown.click(*right)
    shown.click(*shown.middle("document.querySelector('.crumbs .whole')"))
    assert both() == (False, True), "so does the way back that is named above the picture"
    assert shown.evaluate(crumb) == ""


@needs_browser
def test_an_enlarged_area_has_room_for_what_its_ranges_are(browser: Browser, tmp_path: Path) -> None:
    ranges = [ShadowRange(at << 20, (at << 20) + 0x1000, 0, bool(at % 3), True, False) for at in range(400)]
    ranges.append(ShadowRange(1 << 40, (1 << 40) + 0x1000, 0x5000, True, True, True))
    shown = browser.open(shadow_page(tmp_path / "map.html", MappedSpace("one", mapped_areas(ranges, (), Symbols()))))
    last = "[...document.querySelectorAll('.group')].pop()"
    assert shown.evaluate(f"{last}.querySelector('.range text').textContent") == ""
    shown.click(*shown.middle(f"{last}.querySelector('.area')"))
    text = shown.evaluate(f"{last}.querySelector('.range text').textContent")
    assert text == "0x10000000000 rwx0x10000000000 to 0x10000000fff: 4 KiB, user, physical 0x5000"


@needs_browser
def test_another_address_space_can_be_chosen(browser: Browser, tmp_path: Path) -> None:
    spaces = [
        MappedSpace(title, mapped_areas([ShadowRange(0, 0x1000, 0, True, user, False)], (), Symbols()))
        for title, user in (("one", True), ("<two>", False))
    ]
    shown = browser.open(shadow_page(tmp_path / "map.html", *spaces))
    assert shown.evaluate("[...document.querySelectorAll('option')].map(each => each.textContent)") == ["one", "<two>"]
    seen = "[...document.querySelectorAll('svg.map')].find(map => map.style.display === '')"
    assert alike(shown.pixel(*shown.middle(seen)), colour("#85b7de"))
    shown.evaluate("(s => { s.value = '1'; s.dispatchEvent(new Event('change')); })(document.querySelector('select'))")
    assert alike(shown.pixel(*shown.middle(seen)), colour("#f2a26b"))


@needs_browser
def test_the_whole_report_is_drawn_and_no_script_fails(browser: Browser, machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(machine_report(machine))
    shown = browser.open(file)
    assert shown.evaluate("document.querySelector('.controls').style.display") == ""
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    height = "each.querySelector('.picture').getBoundingClientRect().height"
    sizes = dict(shown.evaluate(f"[...document.querySelectorAll('section')].map(each => [each.id, {height}])"))
    assert list(sizes) == ["timeline", "ledger", "flame", "functions", "tc", "shadow"]
    assert all(size > 30 for size in sizes.values())
    picture = shown.screenshot(whole=True)
    assert len(picture.resize((200, 400)).getcolors(80_000) or ()) > 50, "it is not empty"


@needs_browser
def test_paper_is_white_whatever_the_screen_is(browser: Browser, machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_bytes(machine_report(machine))
    shown = browser.open(file, "dark")
    colours = "[document.body, document.querySelector('.flame .paper')].map(each => getComputedStyle(each))"
    assert shown.evaluate(f"{colours}.map(each => each.color)[0]") == "rgb(232, 232, 234)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    shown.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert shown.evaluate(f"{colours}.map(each => each.color)[0]") == "rgb(27, 27, 31)"
    assert shown.evaluate(f"{colours}.map(each => each.backgroundColor)[0]") == "rgb(255, 255, 255)"
    assert shown.evaluate(f"{colours}.map(each => each.fill)[1]") == "rgb(253, 253, 252)"
    hidden = "document.querySelectorAll('nav, .buttons, .bar, .controls')"
    assert shown.evaluate(f"[...{hidden}].every(each => getComputedStyle(each).display === 'none')")
    assert len(shown.call("Page.printToPDF", printBackground=True)["data"]) > 20_000


def test_the_command_writes_it(hello: Session, table: CommandTable, tmp_path: Path) -> None:
    hello.run()
    table.execute(hello, f"report {tmp_path / 'now.html'}")
    assert (tmp_path / "now.html").read_bytes().startswith(b"<!DOCTYPE html>")
    with pytest.raises(CommandError, match="give another file"):
        table.execute(hello, "report /nonexistent/a.html")
