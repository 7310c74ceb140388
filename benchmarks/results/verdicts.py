"""What the numbers of an experiment say, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.results.findings import Findings, Row
from benchmarks.results.tables import with_seeds
from pipeline.report.formats import KEEP, counted, listed, signed_points
from pipeline.report.tables import compare

LEARNS = {"finetune": "the labels alone", "kd": "the labels and the logits"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A paragraph, and the list below it."""

    head: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Rows by how they stand to a base."""

    above: tuple[Row, ...]
    same: tuple[Row, ...]
    below: tuple[Row, ...]
    unknown: tuple[Row, ...]
    """With fewer than two seeds."""


def verdicts(findings: Findings) -> list[Verdict]:
    """One for each base that others are measured against, and one for the others."""
    against = {base.name: _measured_against(base, findings.rows) for base in findings.rows}
    bases = [base for base in findings.rows if against[base.name]]
    known = [base for base in bases if len(base.runs) > 1]
    found = [_verdict(base, against[base.name]) for base in known]
    open_ones = [base for base in bases if base not in known]
    return found + ([_open(open_ones)] if open_ones else [])


def _measured_against(base: Row, rows: Sequence[Row]) -> list[Row]:
    """Rows that a base is a measure for.

    For the first `finetune` all others; for a further one all that learn from a teacher; for `kd`
    those that learn [CLS] too, from the same training rows.
    """
    strategy = _strategy(base)
    first = next((row for row in rows if _strategy(row) == "finetune"), None)
    if base is first:
        return [row for row in rows if row is not base]
    if strategy == "finetune":
        return [row for row in rows if _strategy(row) != "finetune"]
    if strategy == "kd":
        return [row for row in rows if _strategy(row) not in LEARNS and _same_rows(row, base)]
    return []


def _strategy(row: Row) -> str:
    return row.method.strategy if row.method else ""


def _same_rows(one: Row, other: Row) -> bool:
    return bool(
        one.method and other.method and one.method.labelled_only == other.method.labelled_only
    )


def standing(base: Row, others: Sequence[Row]) -> Standing:
    """Sort by Welch's t-test on the main metric."""
    known = [row for row in others if len(row.runs) > 1]

    def where(test: Callable[[int], bool]) -> tuple[Row, ...]:
        return tuple(row for row in known if test(_side(row, base)))

    return Standing(
        above=where(lambda side: side > 0),
        same=where(lambda side: side == 0),
        below=where(lambda side: side < 0),
        unknown=tuple(row for row in others if row not in known),
    )


def _side(row: Row, base: Row) -> int:
    """1 above, -1 below, 0 not distinguishable."""
    if row.main.mean >= base.main.mean:
        return int(compare(row.main, base.main).significant)
    return -int(compare(base.main, row.main).significant)


def _open(bases: Sequence[Row]) -> Verdict:
    names = [f"{quoted(base.name)} ({counted(len(base.runs), 'seed')})" for base in bases]
    return Verdict(
        head=f"Nothing can be said yet of what is above or below {listed(names)}: with fewer than "
        "two seeds there is no spread to measure a difference by."
    )


def _verdict(base: Row, others: Sequence[Row]) -> Verdict:
    name, learns = quoted(base.name), LEARNS[_strategy(base)]
    head = f"Against {name}, which learns {learns} ({with_seeds(base.main)}):"
    return Verdict(head=head, lines=tuple(_lines(base, standing(base, others))))


def _lines(base: Row, found: Standing) -> list[str]:
    texts = {
        "Above it, beyond the noise of the seeds": found.above,
        "Not distinguishable from it, so that no help is shown": found.same,
        "Below it, beyond the noise of the seeds": found.below,
    }
    lines = [f"{text}: {_with_gaps(rows, base)}." for text, rows in texts.items() if rows]
    if found.unknown:
        names = [f"{quoted(row.name)} ({counted(len(row.runs), 'seed')})" for row in found.unknown]
        lines.append(f"Nothing can be said yet of {listed(names)}.")
    if not found.above and (found.same or found.below):
        lines.append("None of those measured so far helps here, as far as these seeds can tell.")
    return lines


def _with_gaps(rows: Sequence[Row], base: Row) -> str:
    gaps = [(row, row.main.mean - base.main.mean) for row in rows]
    return listed([f"{quoted(row.name)} ({signed_points(gap)})" for row, gap in gaps])


def quoted(name: str) -> str:
    """A name as code that never breaks between lines: one that began with + would begin a list."""
    return f"`{name.replace(' ', KEEP)}`"
