"""A picture of a run: page faults, interrupts, system calls and port accesses over time, as an SVG (or by matplotlib).

dbgvmm run guests/build/selftest.elf --script examples/plot_events.py -- events.svg
A name that does not end in .svg is drawn by matplotlib, if it is installed.
"""

import sys
from pathlib import Path

from dbgvmm import Machine
from dbgvmm.cpu.bits import Vector
from dbgvmm.debug.hits import Hit

WIDTH, LANE, LEFT, TOP = 900, 110, 20, 24
COLOURS = {"page faults": "#c0392b", "interrupts": "#2980b9", "system calls": "#27ae60", "port accesses": "#7f8c8d"}


def svg(series: dict[str, list[int]], end: int) -> str:
    """How many of each there were so far: a lane for each, as high as its most."""
    height = LANE * len(series) + TOP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">']
    wide = (WIDTH - 2 * LEFT) / end
    for number, (name, counts) in enumerate(series.items()):
        bottom, high = (number + 1) * LANE, (LANE - TOP) / (len(counts) or 1)
        heights = {round(count * wide, 1): so_far for so_far, count in enumerate(counts, 1)}  # the last of each place
        points = [(0.0, 0), *heights.items(), (end * wide, len(counts))]
        line = " ".join(f"{LEFT + x:.1f},{bottom - y * high:.1f}" for x, y in points)
        colour = COLOURS[name]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{line}"/>')
        parts.append(f'<text x="{LEFT}" y="{bottom - LANE + TOP - 6}" fill="{colour}">{name}: {len(counts):,}</text>')
    parts.append(f'<text x="{LEFT}" y="{height - 6}">0 to {end:,} instructions</text></svg>')
    return "\n".join(parts) + "\n"


def main(machine: Machine) -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "events.svg")
    series: dict[str, list[int]] = {name: [] for name in COLOURS}
    sources = machine.on_exception(Vector.PF), machine.on_interrupt(), machine.on_syscall(), machine.on_port()
    for name, decorate in zip(series, sources, strict=True):

        @decorate
        def note(hit: Hit, name: str = name) -> None:
            series[name].append(hit.count)

    machine.run()
    if path.suffix == ".svg":
        path.write_text(svg(series, machine.count))
    else:
        try:
            from matplotlib import pyplot
        except ImportError:
            sys.exit("matplotlib is not installed: `pip install matplotlib`, or give a name that ends in .svg")
        figure, lanes = pyplot.subplots(len(series), sharex=True, figsize=(9, 6))
        for lane, (name, counts) in zip(lanes, series.items(), strict=True):
            so_far = [*range(len(counts) + 1), len(counts)]
            lane.step([0, *counts, machine.count], so_far, where="post", color=COLOURS[name])
            lane.set_title(f"{name}: {len(counts):,}", loc="left", fontsize=10)
        lanes[-1].set_xlabel("instructions")
        figure.tight_layout()
        figure.savefig(path)
    print(f"{path}: " + ", ".join(f"{len(counts):,} {name}" for name, counts in series.items()))
