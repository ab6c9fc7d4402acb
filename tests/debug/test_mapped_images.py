"""ELF images in a process' memory: what they say about themselves, and what hostile ones cannot do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from process_memory import ProcessMemory

from dbgvmm.debug.symbols.build_id import build_id_in
from dbgvmm.debug.symbols.directory import DebugDirectory
from dbgvmm.debug.symbols.files import load_symbols
from dbgvmm.debug.symbols.image import MOST_IMAGES, Image, find_images, image_at
from dbgvmm.debug.symbols.image_symbols import MOST_SYMBOLS, ImageSymbols
from dbgvmm.debug.symbols.match import compare_image
from dbgvmm.debug.symbols.spaces import AddressSpace
from dbgvmm.debug.symbols.table import SymbolError
from dbgvmm.hardware.paging import PTE

BIAS = 0x7F12_3456_0000
SOURCE = """\
int shared_variable = 3;
__attribute__((noinline)) static int hidden(int x) { return x * 3; }
int exported(int x) { return hidden(x) + shared_variable; }
int other(int x) { char big[300]; for (int i = 0; i < x; i++) big[i] = i; return exported(big[x - 1]); }
"""


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "library.c"
    path.write_text(SOURCE)
    return path


def build(source: Path, name: str, *options: str) -> Path:
    path = source.with_name(name)
    subprocess.run(["gcc", "-O1", "-g", "-o", path, *options, source], check=True)
    return path


@pytest.fixture(scope="session", params=["sysv", "gnu", "both"])
def library(source: Path, request: pytest.FixtureRequest) -> Path:
    """A shared library with each kind of hash table."""
    style = request.param
    return build(
        source, f"lib{style}.so", "-shared", "-fPIC", f"-Wl,--hash-style={style}", "-Wl,-soname,libtest.so.1", "-Wl,--build-id"
    )


def only_image(memory: ProcessMemory) -> Image:
    (image,) = find_images(memory.ram, memory.cr3, memory.paging.reserved, memory.read)
    return image


def test_a_mapped_library_gives_its_dynamic_symbols_where_they_are(library: Path) -> None:
    memory = ProcessMemory()
    memory.load(library, BIAS)
    symbols = ImageSymbols(only_image(memory), memory.read)
    file = load_symbols(library, BIAS)
    for name in ("exported", "other", "shared_variable"):
        assert symbols.find(name) == file.find(name) is not None
    assert symbols.find("hidden") is None
    assert symbols.name == "libtest.so.1"
    assert symbols.source == f"libtest.so.1 at {BIAS:#x}"


def test_a_mapped_librarys_call_frames_are_those_of_its_file(library: Path) -> None:
    memory = ProcessMemory()
    memory.load(library, BIAS)
    symbols = ImageSymbols(only_image(memory), memory.read)
    file = load_symbols(library, BIAS)
    other = file.find("other")
    assert other is not None
    assert symbols.call_frames is not None
    assert file.call_frames is not None
    for address in range(other.address, other.end):
        mapped, own = symbols.call_frames.row(address), file.call_frames.row(address)
        assert mapped is not None
        assert own is not None
        assert (mapped.cfa, mapped.rules) == (own.cfa, own.rules)


def test_a_library_whose_pointers_were_relocated_is_read_likewise(library: Path) -> None:
    """glibc's loader adds the bias to the addresses in the dynamic section."""
    memory = ProcessMemory()
    memory.load(library, BIAS)
    image = only_image(memory)
    dynamic = image.of_kind(2)
    assert dynamic is not None
    before = ImageSymbols(image, memory.read)
    for at in range(BIAS + dynamic.address, BIAS + dynamic.address + dynamic.in_memory, 16):
        tag, value = (int.from_bytes(memory.read(at + offset, 8), "little") for offset in (0, 8))
        if tag in (4, 5, 6, 0x6FFF_FEF5):
            memory.write(at + 8, (value + BIAS).to_bytes(8, "little"))
    after = ImageSymbols(image, memory.read)
    assert list(after) == list(before)


def test_an_image_that_is_not_there_any_more_is_said(library: Path) -> None:
    memory = ProcessMemory()
    memory.load(library, BIAS)
    symbols = ImageSymbols(only_image(memory), memory.read)
    assert compare_image(symbols, memory.read).state == "matches"
    memory.write(BIAS, b"something else")
    assert compare_image(symbols, memory.read).state == "differs"


def test_a_file_on_the_host_is_found_by_its_build_id(library: Path, tmp_path: Path) -> None:
    memory = ProcessMemory()
    memory.load(library, BIAS)
    image = only_image(memory)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "renamed").write_bytes(library.read_bytes())
    (tmp_path / "something else").write_text("no ELF file")
    found = DebugDirectory(tmp_path).load(image.build_id, image.bias)
    assert found is not None
    hidden = found.find("hidden")
    assert hidden is not None
    assert BIAS < hidden.address < BIAS + 0x10000
    assert DebugDirectory(tmp_path).load("00" * 20, 0) is None


def test_a_debug_file_is_found_where_gdb_looks_for_it(library: Path, tmp_path: Path) -> None:
    memory = ProcessMemory()
    memory.load(library, BIAS)
    build_id = only_image(memory).build_id
    place = tmp_path / ".build-id" / build_id[:2]
    place.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", library, place / f"{build_id[2:]}.debug"], check=True)
    found = DebugDirectory(tmp_path).load(build_id, BIAS)
    assert found is not None
    hidden = found.find("hidden")
    assert hidden is not None
    assert found.lines is not None
    line = found.lines.at(hidden.address)
    assert line is not None
    assert line.path.endswith("library.c")


def test_there_has_to_be_such_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SymbolError, match="no directory"):
        DebugDirectory(tmp_path / "nothing")


def test_a_static_program_carries_nothing(source: Path) -> None:
    program = build(source, "static", "-static", "-s", "-nostdlib", "-no-pie", "-Wl,-e,exported", "-Wl,--build-id")
    memory = ProcessMemory()
    memory.load(program, 0)
    image = only_image(memory)
    assert image.bias == 0
    assert len(image.build_id) == 40
    assert len(ImageSymbols(image, memory.read)) == 0


def test_a_symbol_table_that_happens_to_be_mapped_is_used(source: Path) -> None:
    """A small program's file is mapped to its last byte, as a vDSO is."""
    program = build(source, "small", "-static", "-nostdlib", "-no-pie", "-Wl,-e,exported", "-Wl,-z,noseparate-code")
    memory = ProcessMemory()
    memory.load(program, 0)
    found = ImageSymbols(only_image(memory), memory.read).find("hidden")
    own = load_symbols(program).find("hidden")
    assert own is not None
    assert found is not None
    assert found.address == own.address


def test_a_program_that_was_only_read_into_memory_is_no_image(source: Path) -> None:
    program = build(source, "static", "-static", "-nostdlib", "-no-pie", "-Wl,-e,exported")
    memory = ProcessMemory()
    memory.write(0x70_0000, program.read_bytes())
    assert find_images(memory.ram, memory.cr3, memory.paging.reserved, memory.read) == []


def test_pages_of_the_kernel_are_not_searched(library: Path) -> None:
    memory = ProcessMemory()
    frame = memory.map(0x40_0000, PTE.W)
    memory.ram.bytes[frame : frame + 4096] = library.read_bytes()[:4096]
    assert find_images(memory.ram, memory.cr3, memory.paging.reserved, memory.read) == []


def test_a_thousand_images_are_too_many() -> None:
    memory = ProcessMemory()
    header = bytearray(64 + 56)
    header[:7] = b"\x7fELF\x02\x01\x01"
    header[16:20] = bytes((3, 0, 62, 0))
    header[32:40] = (64).to_bytes(8, "little")
    header[54:58] = bytes((56, 0, 1, 0))
    header[64:68] = (1).to_bytes(4, "little")
    for number in range(1000):
        memory.write(0x1000_0000 + number * 4096, bytes(header))
    assert len(find_images(memory.ram, memory.cr3, memory.paging.reserved, memory.read)) == MOST_IMAGES


def test_tables_that_map_themselves_come_to_an_end() -> None:
    memory = ProcessMemory()
    for index in range(512):
        memory.ram.u64[(memory.cr3 >> 3) + index] = memory.cr3 | PTE.P | PTE.W | PTE.U
    assert find_images(memory.ram, memory.cr3, memory.paging.reserved, memory.read) == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 0x3FFF), st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8))), max_size=12
    )
)
def test_a_hostile_image_gives_little_but_does_no_harm(source: Path, edits: list[tuple[int, bytes]]) -> None:
    path = source.with_name("hostile.so")
    if not path.exists():
        build(source, "hostile.so", "-shared", "-fPIC", "-Wl,--build-id", "-Wl,-z,noseparate-code")
    memory = ProcessMemory(1 << 20)
    memory.load(path, BIAS)
    for at, content in edits:
        if memory.read(BIAS + at, len(content)):
            memory.write(BIAS + at, content)
    image = image_at(BIAS, memory.read)
    if image is not None:
        symbols = ImageSymbols(image, memory.read)
        assert len(symbols) <= MOST_SYMBOLS
        if symbols.call_frames is None:
            assert all("damaged" in problem for problem in symbols.problems)


@given(st.binary(max_size=200))
def test_any_bytes_are_notes_with_or_without_a_build_id(data: bytes) -> None:
    assert isinstance(build_id_in(data), str)


def test_the_pair_of_tables_of_page_table_isolation_is_one_address_space() -> None:
    memory = ProcessMemory()
    kernel, user = 0x40_0000, 0x40_1000
    for table in (kernel, user):
        memory.ram.u64[table >> 3] = 0x5000 | PTE.P | PTE.U
    memory.ram.u64[kernel >> 3] |= PTE.NX
    both = AddressSpace.of_process(memory.ram, kernel | 0x80)
    assert both.has(kernel, 0x1000)
    assert both.has(user | 1, 0x1000)
    assert not both.has(kernel, 0xFFFF_8000_0000_0000), "the upper half is everybody's"
    memory.ram.u64[user >> 3] = 0x6000 | PTE.P | PTE.U
    assert not AddressSpace.of_process(memory.ram, kernel).has(user, 0x1000)
