"""A bench as a table for terminals and pipes."""

from __future__ import annotations

import io
from typing import Any

WIDTH = 200  # characters; a table takes what it needs


def bench_table(record: dict[str, Any]) -> str:
    """One line per shape and contender, shapes apart by rules; then the machine."""
    from rich.console import Console

    from pipeline.bench.table import load_text
    from pipeline.report.formats import counted

    text = io.StringIO()
    console = Console(file=text, width=WIDTH, color_system=None)
    console.print(_table(record))
    machine = record["machine"]
    console.print(
        f"{machine['processor']}, {counted(machine['cores'], 'core')}, "
        f"{counted(machine['threads'], 'thread')} a call; "
        f"load before and after: {load_text(machine)}"
    )
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _table(record: dict[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    from pipeline.bench.table import speed_up

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    table.add_column("rows x tokens", justify="right")
    table.add_column("model")
    for column in ("p50 ms", "p95 ms", "rows/s", "speed-up", "calls"):
        table.add_column(column, justify="right")
    shape = None
    for each in record["timings"]:
        here = f"{each['batch_size']} x {each['length']}"
        if shape not in (None, here):
            table.add_section()
        faster = speed_up(record, each)
        table.add_row(
            here if shape != here else "",
            each["name"],
            f"{each['p50_ms']:,.2f}",
            f"{each['p95_ms']:,.2f}",
            f"{each['rows_per_second']:,.0f}",
            "-" if faster is None else f"{faster:.2f}x",
            str(each["calls"]),
        )
        shape = here
    return table
