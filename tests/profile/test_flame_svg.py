"""The flame graph: well-formed whatever is in it, and drawn by a real browser as it should be."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest
from profiles import COPY, HOSTILE, IRQ, MAIN, READ, SHELL, small_profile, stack

from dbgvmm.profile.flame_colours import colour as colour_of
from dbgvmm.profile.flame_colours import difference_colour
from dbgvmm.profile.flame_svg import FlameOptions, flame_svg
from dbgvmm.profile.flame_tree import flame_tree, placed
from dbgvmm.profile.profile import Frame, Profile, weighed
from tests.browser import Browser, Page, alike, chromium, colour

SVG = "{http://www.w3.org/2000/svg}"
needs_browser = pytest.mark.skipif(chromium() is None, reason="there is no chromium (Debian: chromium)")


def rectangles(svg: bytes, measure: str = "guest") -> dict[str, tuple[float, float, float, float]]:
    """x, y, width, height of each frame by name; of several with a name, the last."""
    root = ElementTree.fromstring(svg)
    (view,) = (group for group in root.iter(f"{SVG}g") if group.get("data-measure") == measure)
    found = {}
    for group in view.iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and rect is not None and title.text:
            x, y, width, height = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
            found[title.text.split("\n")[0]] = x, y, width, height
    return found


def test_widths_are_shares_of_the_whole() -> None:
    found = rectangles(flame_svg(small_profile()))
    whole = found["all"][2]
    assert found["sh-7"][2] == pytest.approx(0.6 * whole, abs=0.02)
    assert found["copy_to_user"][2] == pytest.approx(0.3 * whole, abs=0.02)


def test_callees_stand_on_their_callers_and_hang_in_an_icicle() -> None:
    flame = rectangles(flame_svg(small_profile()))
    icicle = rectangles(flame_svg(small_profile(), FlameOptions(orientation="icicle")))
    assert flame["main"][1] < flame["sh-7"][1] < flame["all"][1]
    assert icicle["main"][1] > icicle["sh-7"][1] > icicle["all"][1]
    for found in (flame, icicle):
        x, _, width, _ = found["copy_to_user"]
        assert found["main"][0] <= x and x + width <= found["main"][0] + found["main"][2] + 0.02


def test_hostile_names_are_text() -> None:
    root = ElementTree.fromstring(flame_svg(small_profile(), FlameOptions(title=HOSTILE)))
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    assert any(text.startswith("a<b>&\"c';d e\ufffdf\ufffd]]>--") for text in titles)
    assert not root.findall(f".//{SVG}b")


def test_the_picture_needs_nothing_else() -> None:
    text = flame_svg(small_profile()).decode()
    assert "href" not in text and "url(" not in text and "@import" not in text
    assert text.count("http") == text.count("http://www.w3.org/")


def test_the_picture_is_the_same_each_time() -> None:
    assert flame_svg(small_profile()) == flame_svg(small_profile())


def test_no_weight_is_lost_in_the_tree() -> None:
    tree = flame_tree(weighed(small_profile(), "guest"))
    assert tree.weight == small_profile().instructions == sum(place.node.own for place in placed(tree))


def test_kernel_user_and_monitor_have_different_colours() -> None:
    kinds = {kind: {colour_of(Frame(f"f{number}", kind)) for number in range(64)} for kind in ("kernel", "user", "monitor")}
    assert not kinds["kernel"] & kinds["user"] and not kinds["user"] & kinds["monitor"]


def test_a_difference_is_red_where_it_grew_and_blue_where_it_shrank() -> None:
    before = Profile((stack((READ,), 500), stack((MAIN,), 500)), (), 100, Fraction(10))
    now = Profile((stack((READ,), 700), stack((MAIN,), 300)), (), 100, Fraction(10))
    text = flame_svg(now, FlameOptions(before=before)).decode()
    assert f'fill="{difference_colour(1)}"' in text and f'fill="{difference_colour(-1)}"' in text
    assert "before: 50.00%" in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flame.svg"
    path.write_bytes(flame_svg(small_profile(), FlameOptions("a test")))
    return path


def inside(box: tuple[float, float, float, float]) -> tuple[float, float]:
    """A place near the right end of a rectangle, where no text is."""
    x, y, width, height = box
    return x + width - 6, y + height - 4


def is_drawn(page: Page, frame: Frame, box: tuple[float, float, float, float]) -> bool:
    return alike(page.pixel(*inside(box)), colour(colour_of(frame)))


@needs_browser
@pytest.mark.parametrize("scripts", [True, False])
def test_rectangles_are_drawn_where_they_belong(browser: Browser, file: Path, scripts: bool) -> None:
    page, found = browser.open(file, scripts=scripts), rectangles(file.read_bytes())
    for frame in (SHELL, MAIN, READ, COPY):
        assert is_drawn(page, frame, found[frame.name]), frame


@needs_browser
def test_a_click_zooms_and_a_button_shows_all_again(browser: Browser, file: Path) -> None:
    page, found = browser.open(file), rectangles(file.read_bytes())
    page.click(*inside(found["copy_to_user"]))
    page.move(5, 5)
    whole = found["all"]
    _, y, _, height = found["copy_to_user"]
    assert is_drawn(page, COPY, (whole[0], y, whole[2], height))
    assert page.evaluate("document.querySelectorAll('.f.above').length") == 4
    page.click(1150, 61)
    page.move(5, 5)
    assert is_drawn(page, COPY, found["copy_to_user"])
    assert page.evaluate("document.querySelectorAll('.f.above').length") == 0


@needs_browser
def test_the_switch_shows_the_monitors_time(browser: Browser, file: Path) -> None:
    page, found = browser.open(file), rectangles(file.read_bytes(), "monitor")
    port = Frame("[vmm] port", "monitor")
    assert not is_drawn(page, port, found[port.name])
    button = page.evaluate("(r => [r.x + r.width / 2, r.y + r.height / 2])"
                           "(document.querySelector('.button.monitor').getBoundingClientRect())")  # fmt: skip
    page.click(*button)
    page.move(5, 5)
    assert is_drawn(page, port, found[port.name])
    assert found[port.name][2] == pytest.approx(found["all"][2] / 2, abs=0.02)


@needs_browser
def test_what_is_searched_for_is_marked_and_its_share_told(browser: Browser, file: Path) -> None:
    page, found = browser.open(file), rectangles(file.read_bytes())
    page.evaluate("document.querySelector('input').focus()")
    page.type("copy|main")
    assert alike(page.pixel(*inside(found["main"])), colour("#e93ecf"))
    assert not alike(page.pixel(*inside(found["sh-7"])), colour("#e93ecf"))
    assert page.evaluate("document.querySelector('.details').textContent") == '"copy|main": 2 frames, 60.00 % of the whole'
    page.type("(")
    assert page.evaluate("document.querySelector('.details').textContent").startswith('"copy|main(": 0 frames')


@needs_browser
def test_the_mouse_tells_what_it_is_on(browser: Browser, file: Path) -> None:
    page, found = browser.open(file), rectangles(file.read_bytes())
    page.move(*inside(found["copy_to_user"]))
    assert "300 instructions (30.00%)" in page.evaluate("document.querySelector('.details').textContent")
    assert IRQ.name.startswith("a<b>")


@needs_browser
def test_it_is_dark_for_who_likes_it_dark(browser: Browser, file: Path) -> None:
    assert sum(browser.open(file, "dark").pixel(600, 20)) < 120 < 600 < sum(browser.open(file, "light").pixel(600, 20))
