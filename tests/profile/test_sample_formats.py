"""Folded stacks, speedscope, pprof: read by readers that were written from the formats' descriptions."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from profiles import COPY, HOSTILE, IRQ, MAIN, READ, SHELL, small_profile

from dbgvmm.profile.export import UnknownFormat, exported, format_of
from dbgvmm.profile.folded import folded
from dbgvmm.profile.pprof import pprof
from dbgvmm.profile.profile import FunctionCost, function_costs
from dbgvmm.profile.speedscope import speedscope


def test_folded_stacks_are_lines_with_weights() -> None:
    assert folded(small_profile()).decode() == (
        "sh-7;main 200\n"
        "sh-7;main;sys_read_[k] 100\n"
        "sh-7;main;sys_read_[k];copy_to_user_[k] 300\n"
        "sys_read_[k];a<b>&\"c':d?e?f?]]>--_[k] 400\n"
    )


def test_folded_monitor_time_has_the_mechanism_on_top() -> None:
    lines = folded(small_profile(), "monitor").decode().splitlines()
    assert "sh-7;main;sys_read_[k];copy_to_user_[k];[vmm] hidden 1000" in lines
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 3000


def test_speedscope_keeps_the_rules_of_its_schema() -> None:
    file = json.loads(speedscope(small_profile(), "boot"))
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert set(file) <= {"$schema", "shared", "profiles", "name", "activeProfileIndex", "exporter"}
    frames = file["shared"]["frames"]
    assert all(isinstance(frame["name"], str) and set(frame) <= {"name", "file", "line", "col"} for frame in frames)
    for profile in file["profiles"]:
        assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
        assert profile["type"] == "sampled"
        assert profile["unit"] in {"none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"}
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(weight >= 0 for weight in profile["weights"])
        assert profile["endValue"] - profile["startValue"] == sum(profile["weights"])
        assert all(0 <= number < len(frames) for sample in profile["samples"] for number in sample)


def test_speedscope_has_samples_in_the_order_of_time() -> None:
    file = json.loads(speedscope(small_profile()))
    guest, monitor = file["profiles"]
    names = [[file["shared"]["frames"][number]["name"] for number in sample] for sample in guest["samples"]]
    assert names[0] == ["sh-7", "main"] and names[1] == ["sys_read", HOSTILE]
    assert guest["weights"] == [1500, 4000, 3000, 500, 1000]
    assert sum(monitor["weights"]) == 3000


Field = tuple[int, int | bytes]


def fields(data: bytes) -> Iterator[Field]:
    """Protobuf's wire format: numbers and strings of bytes, by the field's number."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    at = 0
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            assert key & 7 == 2, "only varints and strings are in a pprof file"
            length = varint()
            yield key >> 3, data[at : at + length]
            at += length
    assert at == len(data)


def numbers(data: int | bytes) -> list[int]:
    """A packed list of varints (or one)."""
    if isinstance(data, int):
        return [data]
    return [value for _, value in fields(b"".join(b"\x08" + part for part in _varints(data))) if isinstance(value, int)]


def _varints(data: bytes) -> Iterator[bytes]:
    start = 0
    for at, byte in enumerate(data):
        if byte < 0x80:
            yield data[start : at + 1]
            start = at + 1


class Pprof:
    """A decoded file."""

    def __init__(self, data: bytes) -> None:
        parts = list(fields(gzip.decompress(data)))
        self.strings = [value.decode() for number, value in parts if number == 6 and isinstance(value, bytes)]
        self.single = {number: value for number, value in parts if isinstance(value, int)}
        self.types = [self._names(value) for number, value in parts if number == 1]
        functions = {one[1]: self.strings[one[2]] for one in map(self._plain, self._of(parts, 5))}
        mappings = {one[1]: self.strings[one[5]] for one in map(self._plain, self._of(parts, 3))}
        self.locations: dict[int, tuple[str, int, str]] = {}
        for value in self._of(parts, 4):
            one = self._plain(value)
            (line,) = (part for number, part in fields(value) if number == 4)
            assert isinstance(line, bytes)
            self.locations[one[1]] = functions[self._plain(line)[1]], one.get(3, 0), mappings[one[2]]
        self.samples = [self._sample(value) for value in self._of(parts, 2)]

    @staticmethod
    def _of(parts: list[Field], wanted: int) -> list[bytes]:
        return [value for number, value in parts if number == wanted and isinstance(value, bytes)]

    @staticmethod
    def _plain(data: bytes) -> dict[int, int]:
        return {number: value for number, value in fields(data) if isinstance(value, int)}

    def _names(self, data: int | bytes) -> tuple[str, str]:
        assert isinstance(data, bytes)
        plain = self._plain(data)
        return self.strings[plain[1]], self.strings[plain[2]]

    def _sample(self, data: bytes) -> tuple[list[str], list[int], dict[str, str]]:
        stack: list[str] = []
        values: list[int] = []
        labels: dict[str, str] = {}
        for number, value in fields(data):
            if number == 1:
                stack += [self.locations[at][0] for at in numbers(value)]
            elif number == 2:
                values += numbers(value)
            elif isinstance(value, bytes):
                label = self._plain(value)
                labels[self.strings[label[1]]] = self.strings[label[2]]
        return stack, values, labels


def test_pprof_tells_guest_time_and_monitor_time_apart() -> None:
    file = Pprof(pprof(small_profile()))
    assert file.strings[0] == ""
    assert file.types == [
        ("samples", "count"), ("instructions", "count"), ("guest", "nanoseconds"), ("monitor", "nanoseconds"),
    ]  # fmt: skip
    assert file.strings[file.single[14]] == "instructions"
    assert file.single[12] == 100
    totals = [sum(values) for values in zip(*(values for _, values, _ in file.samples), strict=True)]
    assert totals == [5, 1000, 10_000, 3000]
    assert (["copy_to_user", "sys_read", "main"], [1, 300, 3000, 0], {"task": "sh-7"}) in file.samples
    assert (["[vmm] hidden", "copy_to_user", "sys_read", "main"], [0, 0, 0, 1000], {"task": "sh-7"}) in file.samples
    assert file.locations[1] == ("main", 0x2000, "[user]")
    assert {mapping for _, _, mapping in file.locations.values()} == {"[user]", "[kernel]", "[vmm]"}


def test_pprof_is_the_same_file_each_time() -> None:
    code = (
        "import sys, hashlib; sys.path.insert(0, 'tests/profile'); from profiles import small_profile;"
        "from dbgvmm.profile.pprof import pprof; print(hashlib.sha256(pprof(small_profile())).hexdigest())"
    )
    root = Path(__file__).parents[2]
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1


def test_functions_own_and_total_costs() -> None:
    costs = function_costs(small_profile())
    assert costs[0] == FunctionCost(IRQ.name, "kernel", 1, 400, 400, 2000)
    assert costs[1] == FunctionCost(COPY.name, "kernel", 1, 300, 300, 1000)
    totals = {cost.name: cost.total_instructions for cost in costs}
    assert totals == {IRQ.name: 400, COPY.name: 300, MAIN.name: 600, READ.name: 800}
    assert SHELL.name not in totals


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.folded", "folded"), ("b.txt", "folded"), ("c.json", "speedscope"), ("d.pb.gz", "pprof"), ("e.svg", "svg")],
)
def test_a_files_name_says_the_format(name: str, expected: str) -> None:
    assert format_of(Path(name)) == expected


def test_another_name_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnknownFormat, match="give --format"):
        format_of(Path("profile.xyz"))


@pytest.mark.parametrize("name", ["folded", "speedscope", "pprof", "svg"])
def test_an_empty_profile_can_be_written(name: str) -> None:
    empty = small_profile().__class__((), (), 0, small_profile().ns_per_instruction)
    assert exported(empty, name) is not None  # type: ignore[arg-type]  # the names are the parameters
