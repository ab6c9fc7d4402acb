"""Strict readers of the formats that profiles are saved in, written from the formats' descriptions."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

_POSITION = re.compile(r"(0x[0-9a-f]+) (\d+) (\d+)")
_NAME = re.compile(r"\((\d+)\)(?: (.+))?")


@dataclass
class Callgrind:
    """What a Callgrind file says. cost: by function (object, file, name). calls: (caller, callee) to (count, cost)."""

    header: dict[str, str] = field(default_factory=dict)
    cost: dict[tuple[str, str, str], int] = field(default_factory=dict)
    by_address: dict[tuple[str, int], int] = field(default_factory=dict)
    calls: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    totals: int = -1


def read_callgrind(text: str) -> Callgrind:
    """Read one; AssertionError where it is not as the specification has it."""
    lines = text.splitlines()
    assert lines[0] == "# callgrind format"
    found = Callgrind()
    names: dict[str, dict[str, str]] = {"ob": {}, "fl": {}, "fn": {}}
    current = {"ob": "", "fl": "", "fn": ""}
    file = callee = ""
    pending = 0

    def resolve(kind: str, value: str) -> str:
        match = _NAME.fullmatch(value)
        assert match, value
        number, name = match.groups()
        if name is None:
            return names[kind][number]
        assert number not in names[kind], f"{value} is defined twice"
        names[kind][number] = name
        return name

    for line in lines[1:]:
        if not line:
            assert not pending
            continue
        position = _POSITION.fullmatch(line)
        if position:
            address, cost = int(position[1], 16), int(position[3])
            if pending:
                pair = current["fn"], callee
                times, before = found.calls.get(pair, (0, 0))
                found.calls[pair] = times + pending, before + cost
                pending = 0
            else:
                key = current["ob"], current["fl"], current["fn"]
                found.cost[key] = found.cost.get(key, 0) + cost
                at = current["ob"], address
                assert at not in found.by_address, f"{line} comes twice"
                found.by_address[at] = cost
            continue
        assert not pending, f"a call without a cost line before {line}"
        if ": " in line and "=" not in line.partition(": ")[0]:
            key_name, _, value = line.partition(": ")
            if key_name == "totals":
                found.totals = int(value)
            elif key_name != "desc":
                found.header[key_name] = value
            continue
        key_name, equals, value = line.partition("=")
        assert equals, line
        if key_name in ("ob", "fl", "fn"):
            current[key_name] = resolve(key_name, value)
            file = current["fl"]
        elif key_name in ("fi", "fe"):
            file = resolve("fl", value)
            assert (file == current["fl"]) == (key_name == "fe")
        elif key_name == "cfi":
            resolve("fl", value)
        elif key_name == "cfn":
            callee = resolve("fn", value)
        else:
            assert key_name == "calls", line
            count, target, _ = value.split()
            pending = int(count)
            assert pending > 0 and int(target, 16) >= 0
    return found


@dataclass
class LcovFile:
    """One record of a tracefile."""

    lines: dict[int, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)


def read_lcov(text: str) -> dict[str, LcovFile]:
    """The records by source file; AssertionError where a summary does not fit, or the order is not geninfo's."""
    order = ["TN", "SF", "FN", "FNDA", "FNF", "FNH", "DA", "LF", "LH", "end_of_record"]
    found: dict[str, LcovFile] = {}
    record, path, stage = LcovFile(), "", len(order) - 1
    for line in text.splitlines():
        key, _, value = line.partition(":")
        at = order.index(key)
        assert at >= stage or (at, stage) == (0, len(order) - 1), f"{line} is out of order"
        stage = at
        if key == "TN":
            assert re.fullmatch(r"\w*", value)
            record, path = LcovFile(), ""
        elif key == "SF":
            path = value
            assert path and path not in found
        elif key == "FN":
            number, name = value.split(",", 1)
            record.starts[name] = int(number)
        elif key == "FNDA":
            times, name = value.split(",", 1)
            assert name in record.starts
            record.functions[name] = int(times)
        elif key == "DA":
            number, times = value.split(",")
            assert int(number) > 0 and int(number) not in record.lines
            record.lines[int(number)] = int(times)
        elif key == "end_of_record":
            found[path] = record
        else:
            expected = {
                "FNF": len(record.functions), "FNH": sum(times > 0 for times in record.functions.values()),
                "LF": len(record.lines), "LH": sum(times > 0 for times in record.lines.values()),
            }  # fmt: skip
            assert int(value) == expected[key], line
    assert order[stage] == "end_of_record"
    return found


@dataclass
class Drcov:
    """A drcov log: modules (base, end, path) and blocks (address, size, module)."""

    modules: list[tuple[int, int, str]]
    blocks: list[tuple[int, int, int]]


def read_drcov(data: bytes) -> Drcov:
    """Read a version 2 log; AssertionError where it is none."""
    at = 0

    def line() -> str:
        nonlocal at
        end = data.index(b"\n", at)
        text, at = data[at:end].decode(), end + 1
        return text

    assert line() == "DRCOV VERSION: 2"
    assert line().startswith("DRCOV FLAVOR: ")
    match = re.fullmatch(r"Module Table: version 2, count (\d+)", line())
    assert match
    assert line() == "Columns: id, base, end, entry, path"
    modules = []
    for number in range(int(match[1])):
        identity, base, end, _, path = line().strip().split(", ", 4)
        assert int(identity) == number
        modules.append((int(base, 16), int(end, 16), path))
    match = re.fullmatch(r"BB Table: (\d+) bbs", line())
    assert match
    assert len(data) - at == 8 * int(match[1])
    blocks = []
    for start, size, number in struct.iter_unpack("<IHH", data[at:]):
        base, end, _ = modules[number]
        assert size and base + start + size <= end
        blocks.append((base + start, size, number))
    return Drcov(modules, blocks)
