"""`pkd-student predict`: check the input, load the student, write window by window."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.errors import DataError
from pipeline.predict.glue import rows_warning
from pipeline.predict.layout import Tally
from pipeline.predict.rows import Bad, Row, read_rows
from pipeline.predict.sink import check_output
from pipeline.predict.source import Source
from pipeline.predict.student import Described
from pipeline.predict.target import Target, opened
from pipeline.progress import Tick, silent

SHOWN = 5  # broken rows that are listed
NOTHING_WRITTEN = "Nothing was written."
MAYBE_WRITTEN = "Predictions of the rows before may have been written."
TICK_ROWS = 1 << 14  # between ticks of the first reading


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to predict."""

    device: str = "auto"
    precision: str = "float32"
    """Or bfloat16."""
    batch_size: int = 64
    skip: bool = False
    """Leave broken rows out instead of stopping at them."""


@dataclass
class Problems:
    """Broken rows: how many, and what is said of the first ones."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, bad: Bad) -> None:
        """Take note of one."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(bad.message)

    def text(self) -> str:
        """The first ones, a line each."""
        more = self.count - len(self.first)
        return "\n".join([*self.first, *([f"and {more:,} more"] if more else [])])

    def refusal(self, written: str) -> DataError:
        """The error of a run that stops at them."""
        return DataError(
            f"{self.text()}\n{written} --on-error skip leaves such rows out and counts them."
        )


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What was done."""

    rows: int
    skipped: int
    problems: list[str]
    """Of the first rows that were skipped."""
    summary: dict[str, float]
    """Rows by label; of a regression mean, min and max."""
    seconds: float
    """Without checking the input and loading the student."""
    warning: str | None


def predict_rows(
    student: Described,
    source: Source,
    target: Target,
    options: Options,
    *,
    overwrite: bool = False,
    tick: Tick = silent,
) -> Predicted:
    """Predict every row of an input, in memory of a window of rows.

    An input that can be read twice is first read to its end without the student, so that broken
    rows are told before anything is computed or written.

    Raises:
        DataError: the input is malformed, or in all of its rows; nothing is written then, but for
            what had gone to a stream from a pipe.
        ModelError: the student cannot be loaded or gives numbers that are not finite.
        OutputExistsError: see `check_output`.
    """
    if target.glue:  # a few texts of QQP are empty
        student = replace(student, columns=replace(student.columns, may_be_empty=True))
    named = target.path  # with the site's name; a link resolves to another
    if target.path is not None:
        target = replace(target, path=check_output(target.path, overwrite, source.path))
    total = _survey(student, source, options, tick) if source.repeatable else 0
    classify = _loaded(student, options)
    tally, problems = Tally(student.labels), Problems()
    start = time.monotonic()
    with opened(target, student, source) as write:
        rows = _good(_read(student, source), problems, target, options)
        for window, outputs in _predicted(classify, rows, total, tick):
            write(target.layout.columns(window, outputs))
            tally.add(outputs)
        _require_some(tally.rows, problems, source)
    return Predicted(
        rows=tally.rows,
        skipped=problems.count,
        problems=problems.first,
        summary=tally.summary(),
        seconds=time.monotonic() - start,
        warning=rows_warning(named, tally.rows) if target.glue and named else None,
    )


def _read(student: Described, source: Source) -> Iterator[Row | Bad]:
    return read_rows(source.start(), source.name, source.kind, student.columns)


def _survey(student: Described, source: Source, options: Options, tick: Tick) -> int:
    """Rows that can be read; raises DataError for broken ones that are not to be skipped."""
    problems, good = Problems(), 0
    for row in _read(student, source):
        if isinstance(row, Bad):
            problems.add(row)
            continue
        good += 1
        if good % TICK_ROWS == 0:
            tick("rows checked", good, 0)
    if problems.count and not options.skip:
        raise problems.refusal(NOTHING_WRITTEN)
    _require_some(good, problems, source)
    if good >= TICK_ROWS:
        tick("rows checked", good, good)
    return good


def _require_some(good: int, problems: Problems, source: Source) -> None:
    if problems.count and not good:
        raise DataError(
            f"{source.name}: none of its {problems.count:,} rows can be read.\n{problems.text()}"
        )


def _good(
    rows: Iterable[Row | Bad], problems: Problems, target: Target, options: Options
) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, Row):
            yield row
            continue
        problems.add(row)
        if not options.skip:
            to_stream = target.path is None
            raise problems.refusal(MAYBE_WRITTEN if to_stream else NOTHING_WRITTEN)


def _loaded(student: Described, options: Options) -> Any:
    from pipeline.devices import pick_device
    from pipeline.predict.classify import load_student

    return load_student(
        student,
        device=pick_device(options.device),
        precision=options.precision,
        batch_size=options.batch_size,
    )


def _predicted(
    classify: Any, rows: Iterable[Row], total: int, tick: Tick
) -> Iterator[tuple[list[Row], Any]]:
    """Each window and its outputs."""
    from pipeline.predict.classify import windows

    done = 0

    def on_batch(size: int) -> None:
        nonlocal done
        done += size
        tick("rows", done, total, rows=done)

    for window in windows(rows):
        yield window, classify(window, on_batch)
    if not total:
        tick("rows", done, done, rows=done)
