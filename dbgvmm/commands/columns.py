"""Text in columns, for what commands show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[object]], header: Sequence[str] = (), right: Iterable[int] = ()) -> str:
    """Rows as lines with aligned columns. `right`: indices of the columns that are aligned to the right."""
    lines = [[str(cell) for cell in row] for row in rows]
    if header:
        lines.insert(0, list(header))
    widths = [
        max(len(line[index]) for line in lines if index < len(line)) for index in range(max(map(len, lines), default=0))
    ]
    to_the_right = frozenset(right)
    return "\n".join(
        "  ".join(
            cell.rjust(widths[index]) if index in to_the_right else cell.ljust(widths[index])
            for index, cell in enumerate(line)
        ).rstrip()
        for line in lines
    )
