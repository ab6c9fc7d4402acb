"""Where names come from: the sources of symbols, with what each has and whether it is what runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbgvmm.commands.columns import columns
from dbgvmm.commands.errors import CommandError
from dbgvmm.commands.parameters import Address, Count, Value
from dbgvmm.commands.session import Session
from dbgvmm.commands.table import command
from dbgvmm.debug.symbols import AddressSpace, KnownSource, Symbol, SymbolError, load_symbols
from dbgvmm.debug.symbols.files import SymbolFile
from dbgvmm.debug.symbols.image_symbols import ImageSymbols
from dbgvmm.debug.symbols.match import Match, compare_image, compare_with_guest
from dbgvmm.debug.symbols.processes import add_images, process_images, space_reader
from dbgvmm.guest_os.linux.modules import ModuleNames
from dbgvmm.guest_os.linux.names import NameTable

_NO_OFFSET: Final = Value(0)


@dataclass(frozen=True)
class SourceRow:
    """A source of symbols. space: the roots of the address space that it belongs to, () for all. build_id: "" without one.

    state: "matches", "differs" or "unknown", against what is in memory; match: that in words. problems: its damaged parts.
    """

    number: int
    source: str
    symbols: int
    offset: int
    space: tuple[int, ...]
    build_id: str
    state: str
    match: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        place = f", {self.offset:+#x}" if self.offset else ""
        where = f", of cr3 {', '.join(f'{root:#x}' for root in self.space)}" if self.space else ""
        count = f"{self.symbols:,} symbols" if self.symbols else "no symbols (static or stripped)"
        line = f"{self.number}: {self.source}: {count}{place}{where}; {self.match}"
        return "\n".join((line, *(f"   {problem}" for problem in self.problems)))


@dataclass(frozen=True)
class SourceList:
    """The sources, in the order in which they were added: of two that know a name the later one is asked."""

    sources: tuple[SourceRow, ...]

    def __str__(self) -> str:
        if not self.sources:
            return "no symbols are known: `symbols add FILE` adds some"
        return "\n".join(map(str, self.sources))


@dataclass(frozen=True)
class SymbolRow:
    """A symbol. end: the first address behind it. kind: "code", "data", "label" or "absolute". source: what knows it."""

    name: str
    address: int
    end: int
    kind: str
    source: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        line = f", {self.file}:{self.line}" if self.line else ""
        size = "" if self.kind == "absolute" else f", {self.end - self.address:,} bytes"
        return f"{self.name} is at {self.address:#x} ({self.kind}{size}){line}, says {self.source}"


@dataclass(frozen=True)
class SymbolRows:
    """Symbols by address. left_out: how many more there are."""

    symbols: tuple[SymbolRow, ...]
    left_out: int

    def __str__(self) -> str:
        if not self.symbols:
            return "no symbol's name matches"
        rows = [
            (f"{row.address:#x}", row.name, f"{row.file}:{row.line}" if row.line else "") for row in self.symbols
        ]
        more = f"\n({self.left_out:,} more: --limit N)" if self.left_out else ""
        return columns(rows) + more


@dataclass(frozen=True)
class SymbolPlace:
    """What an address is in. offset: in bytes from the symbol's start; size: of the symbol."""

    address: int
    name: str
    offset: int
    size: int
    kind: str
    source: str
    file: str
    line: int

    def __str__(self) -> str:
        name = f"{self.name}+{self.offset:#x}" if self.offset else self.name
        line = f", {self.file}:{self.line}" if self.line else ""
        return f"{self.address:#x} is {name} ({self.kind}, {self.size:,} bytes){line}, says {self.source}"


@command("symbols")
def symbols_command(session: Session) -> SourceList:
    """Show where names come from, and whether each source of them is what is in memory.

    That is seen from the build id or, without one, from the bytes of some functions. A kernel patches itself, so a few
    functions may differ.

    For example:
        symbols
    """
    return SourceList(tuple(source_row(session, known) for known in session.symbols.known))


@command("symbols add")
def symbols_add(
    session: Session,
    file: Path | None = None,
    *,
    offset: Value = _NO_OFFSET,
    cr3: Address | None = None,
    directory: Path | None = None,
) -> SourceList:
    """Take the names of FILE: ELF (with lines and call frames), System.map, or what nm prints.

    --offset N: everything is N bytes higher than in the file (a KASLR slide, a position-independent program).
    --cr3 N: only in that address space ($cr3 is the current one's).
    --directory DIR: instead of FILE, the files in DIR that have the build ids of the programs and libraries that the
    process has mapped; DIR may also be one of gdb's (with .build-id in it).

    For example:
        symbols add vmlinux --offset 0x1c000000
        symbols add ./init --cr3 $cr3
        symbols add --directory /usr/lib/debug
    """
    if directory is not None:
        if file is not None:
            raise CommandError("give FILE or --directory DIR, not both")
        return _add_images(session, cr3, directory, only_files=True)
    if file is None:
        raise CommandError("FILE is missing: an ELF file, a System.map or what nm prints; or --directory DIR")
    try:
        found = load_symbols(file, offset, stripped=True)
    except SymbolError as error:
        raise CommandError(str(error)) from error
    known = session.symbols.add(found, None if cr3 is None else AddressSpace.of_process(session.machine.ram, cr3))
    return SourceList((source_row(session, known),))


@command("symbols find")
def symbols_find(session: Session, *, cr3: Address | None = None, directory: Path | None = None) -> SourceList:
    """Find the ELF images that are mapped in user memory, and take the names that they carry themselves.

    --cr3 N: those of that address space, instead of the current one. --directory DIR: with more names from the files in DIR
    that have the same build ids. Their names are known in that address space only. A page that the process has not touched is
    not mapped, and so cannot be read; a static program carries no names.

    For example:
        symbols find
        symbols find --directory ~/rootfs/usr/bin
    """
    return _add_images(session, cr3, directory, only_files=False)


def _add_images(session: Session, cr3: int | None, directory: Path | None, *, only_files: bool) -> SourceList:
    machine = session.machine
    try:
        images = process_images(machine, cr3, directory)
    except SymbolError as error:
        raise CommandError(str(error)) from error
    which = f"cr3 {machine.cpu.cr3 if cr3 is None else cr3:#x}"
    if not images:
        raise CommandError(f"no ELF image is mapped in the user memory of {which}: run on to a process, or give --cr3")
    if only_files:
        wanted = [image for image in images if image.file is not None]
        if not wanted:
            ids = ", ".join(image.symbols.image.build_id or "without build id" for image in images)
            raise CommandError(f"no file in {directory} has the build id of an image that {which} has mapped: {ids}")
        images = wanted
    added = add_images(machine, images, cr3, files_only=only_files)
    return SourceList(tuple(source_row(session, known) for known in added))


@command("symbols remove")
def symbols_remove(session: Session, number: Count) -> SourceRow:
    """Forget the source of that NUMBER in `symbols`.

    For example:
        symbols remove 2
    """
    for known in session.symbols.known:
        if known.number == number:
            row = source_row(session, known)
            session.symbols.remove(known.source)
            return row
    raise CommandError(f"there is no source {number}: `symbols` lists them")


def source_row(session: Session, known: KnownSource) -> SourceRow:
    """What there is to say about a source."""
    source = known.source
    space = tuple(sorted(known.space.roots)) if known.space is not None else ()
    build_id, offset = "", 0
    problems: tuple[str, ...] = ()
    match = Match("unknown", 0, 0, "not compared")
    if isinstance(source, SymbolFile):
        build_id, offset = source.build_id.text if source.build_id is not None else "", source.offset
        read = space_reader(session.machine, space[0]) if space else None
        match = compare_with_guest(source, session.machine, read)
        problems = tuple(source.problems)
    elif isinstance(source, ImageSymbols):
        build_id, offset, problems = source.image.build_id, source.offset, tuple(source.problems)
        match = compare_image(source, space_reader(session.machine, space[0] if space else None))
    elif isinstance(source, NameTable | ModuleNames):
        match = Match("matches", 0, 0, "read from memory")
    return SourceRow(
        known.number, source.source, len(source), offset, space, build_id, match.state, match.text, problems
    )


@command("info symbol")
def info_symbol(session: Session, address: Address) -> SymbolPlace:
    """Show what ADDRESS is in: symbol, offset, line, and which source says so.

    For example:
        info symbol $rip
        info symbol 0xffffffff81000040
    """
    symbols = session.symbols
    for source in symbols.covering(address):
        found = source.at(address)
        if found is not None:
            symbol, offset = found
            line = symbols.source_line(address)
            return SymbolPlace(
                address, symbol.name, offset, symbol.end - symbol.address, symbol.kind, source.source,
                line.file if line else "", line.line if line else 0,
            )  # fmt: skip
    raise CommandError(f"no symbol covers {address:#x}: `symbols` shows what is known")


@command("info address")
def info_address(session: Session, name: str) -> SymbolRow:
    """Show where the symbol NAME is, and which source says so.

    For example:
        info address kmain
    """
    symbol = session.symbols.find(name)
    if symbol is None and session.machine.os_finder.recognise():
        symbol = session.symbols.find(name)
    if symbol is None:
        raise CommandError(f"there is no symbol {name!r}: `info functions REGEX` and `info variables REGEX` search")
    source = next((item.source for item in reversed(session.symbols.sources) if item.find(name) == symbol), "")
    return _row(session, symbol, source)


_LIMIT: Final = Count(200)


@command("info functions")
def info_functions(session: Session, regex: str = "", *, limit: Count = _LIMIT) -> SymbolRows:
    """List the functions whose names REGEX matches (or all), by address; labels of assembly too.

    --limit N: that many at most (200).

    For example:
        info functions ^sys_
        info functions page_fault --limit 1000
    """
    return _matching(session, regex, ("code", "label"), limit)


@command("info variables")
def info_variables(session: Session, regex: str = "", *, limit: Count = _LIMIT) -> SymbolRows:
    """List the variables whose names REGEX matches somewhere (all of them), by address.

    --limit N: that many at most (200).

    For example:
        info variables jiffies
    """
    return _matching(session, regex, ("data",), limit)


def _matching(session: Session, regex: str, kinds: tuple[str, ...], limit: int) -> SymbolRows:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise CommandError(f"{regex!r} is no regular expression: {error}") from error
    found: dict[tuple[int, str], tuple[Symbol, str]] = {}
    for known in reversed(session.symbols.known):
        for symbol in known.source:
            if symbol.kind in kinds and pattern.search(symbol.name):
                found.setdefault((symbol.address, symbol.name), (symbol, known.source.source))
    ordered = [found[key] for key in sorted(found)]
    return SymbolRows(
        tuple(_row(session, symbol, source) for symbol, source in ordered[:limit]), max(0, len(ordered) - limit)
    )


def _row(session: Session, symbol: Symbol, source: str) -> SymbolRow:
    line = session.symbols.source_line(symbol.address) if symbol.kind in ("code", "label") else None
    return SymbolRow(
        symbol.name, symbol.address, symbol.end, symbol.kind, source, line.file if line else "", line.line if line else 0
    )
