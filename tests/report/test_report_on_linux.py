"""The report of a Linux boot: its tasks, its log, the parts of its address space; and a page that a browser can carry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbgvmm import Machine, MachineConfig
from dbgvmm.debug.stops import StopKind
from dbgvmm.report import machine_report
from tests.browser import Browser, chromium

REPOSITORY = Path(__file__).parent.parent.parent
LINUX = Path(os.environ.get("DBGVMM_LINUX", REPOSITORY / "build" / "linux"))
COMMAND_LINE = (
    "cryptomgr.notests=1 console=ttyS0 nokaslr pci=off acpi=off noapic nolapic nopti mitigations=off reboot=k "
    "dbgvmm.script=boot"
)

pytestmark = [
    pytest.mark.xdist_group("linux-report"),  # one boot for all of them
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (LINUX / "vmlinuz").exists(), reason=f"no Linux in {LINUX}: run scripts/linux.sh {LINUX}"),
]


@pytest.fixture(scope="module")
def report() -> bytes:
    machine = Machine(MachineConfig(memory=256 << 20))
    machine.boot(LINUX / "vmlinuz", COMMAND_LINE, LINUX / "initramfs.cpio")
    machine.sampler.start(100_000)
    assert machine.run().kind is StopKind.RESET
    return machine_report(machine)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), 1300, 1000) as opened:
        yield opened


def test_the_page_is_small_enough(report: bytes) -> None:
    assert 100_000 < len(report) < 3_000_000


def test_it_knows_tasks_lines_and_regions(report: bytes) -> None:
    text = report.decode()
    lanes = re.findall(r'text-anchor="end">([^<]+)<', text)
    assert {"swapper/0", "init", "mount"} <= set(lanes), "kernel threads, and the programs that ran so little"
    assert {"console", "interrupts", "page faults", "system calls", "units translated"} <= set(lanes)
    milestones = re.findall(r'class="milestone"[^>]*>([^<]+)<', text)
    assert milestones[0].startswith("Linux version 6.") and milestones[-1] == "reboot: machine restart"
    areas = {name.split(":")[0] for name in re.findall(r'class="group" data-name="([^"]+)"', text)}
    assert {"direct map", "vmalloc", "page frames (vmemmap)", "kernel image", "user"} <= areas
    assert "(init-1)" in text, "address spaces have their tasks' names"


@pytest.mark.skipif(chromium() is None, reason="there is no chromium (Debian: chromium)")
def test_a_browser_draws_it_and_enlarges_the_direct_map(browser: Browser, report: bytes, tmp_path: Path) -> None:
    file = tmp_path / "linux.html"
    file.write_bytes(report)
    shown = browser.open(file)
    heights = "[...document.querySelectorAll('section .picture')].map(each => each.getBoundingClientRect().height)"
    assert all(height > 100 for height in shown.evaluate(heights)) and len(shown.evaluate(heights)) == 6
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shown.evaluate("document.querySelector('#shadow').scrollIntoView()")
    area = "[...document.querySelectorAll('#shadow .group')].find(each => each.dataset.name.startsWith('direct map'))"
    before = shown.evaluate(f"{area}.getBoundingClientRect().width")
    shown.click(*shown.middle(f"{area}.querySelector('.area')"))
    assert shown.evaluate(f"{area}.getBoundingClientRect().width") > before
    assert shown.evaluate("document.querySelector('.crumbs span').textContent").startswith(" \u203a direct map: 0xffff8880")
    labels = shown.evaluate(f"[...{area}.querySelectorAll('.range text')].filter(each => each.textContent).length")
    assert labels > 50, "its ranges have names now"
