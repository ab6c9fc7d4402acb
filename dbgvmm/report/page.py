"""The page that sections stand on: one HTML file with its style and scripts in it, for light and dark.

A section's body is a fragment of HTML or SVG that its maker has escaped; everything else here is text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

from dbgvmm.profile.flame_svg import clean
from dbgvmm.version import VERSION


class Fact(NamedTuple):
    """A number or a word about the run, and what it is."""

    name: str
    value: str


@dataclass(frozen=True)
class Section:
    """A part of the page. anchor: its name in links. note: what is to be seen, in a sentence or two. body: HTML or SVG.

    tall: it may be so high that it scrolls by itself.
    """

    anchor: str
    title: str
    note: str
    body: str
    tall: bool = False


def page(title: str, subtitle: str, facts: Sequence[Fact], sections: Sequence[Section]) -> bytes:
    """The file's content."""
    links = "".join(f'<a href="#{clean(section.anchor)}">{clean(section.title)}</a>' for section in sections)
    cards = "".join(f"<div><dt>{clean(fact.name)}</dt><dd>{clean(fact.value)}</dd></div>" for fact in facts)
    bodies = "".join(
        f'<section id="{clean(section.anchor)}">\n<h2>{clean(section.title)}</h2>\n<p>{clean(section.note)}</p>\n'
        f'<div class="picture{" tall" * section.tall}">{section.body}</div>\n</section>\n'
        for section in sections
    )
    scripts = "".join(asset(name) for name in ("charts.js", "treemap.js"))
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="dbgvmm {VERSION}">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{clean(title)}</title>\n<style>{asset('report.css')}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{clean(title)}</h1>\n<p>{clean(subtitle)}</p>\n<nav>{links}</nav>\n</header>\n"
        f"<main>\n<dl>{cards}</dl>\n{bodies}</main>\n"
        f"<footer>dbgvmm {VERSION}</footer>\n"
        f"<script>{scripts}</script>\n</body>\n</html>\n"
    ).encode()


def asset(name: str) -> str:
    """A file of this package's assets."""
    return (files("dbgvmm.report") / "assets" / name).read_text("utf-8")


__all__ = ["Fact", "Section", "asset", "page"]
