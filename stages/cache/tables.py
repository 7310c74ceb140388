"""Plain text that lines up: facts, tables and bars, for terminals and for pipes."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "
UNITS = ("B", "kB", "MB", "GB", "TB")
BAR_WIDTH = 40  # characters of the longest bar


def facts(rows: Sequence[tuple[str, str]]) -> list[str]:
    """`name : value`, the colons below each other."""
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}} : {value}" for name, value in rows]


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Columns as wide as their longest cell.

    Args:
        rows: cells, the header first.
        left: columns that are aligned to the left; the others to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(
            f"{cell:<{width}}" if place in left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def bar(value: float, largest: float) -> str:
    """A bar whose length is the share of the largest; what is not 0 is at least one character."""
    length = round(BAR_WIDTH * value / largest) if largest else 0
    return "#" * max(length, 1 if value else 0)


def size_text(size_bytes: int) -> str:
    """`512 B`, `41.3 kB`, `1.2 GB`; a kB is 1,000 bytes."""
    size, unit = float(size_bytes), 0
    while size >= 999.95 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{size_bytes} B"


def percent(share: float) -> str:
    """`12.5 %`."""
    return f"{100 * share:.1f} %"
