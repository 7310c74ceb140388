"""Files as the GLUE benchmark's site takes them: names, labels and numbers of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.glue import FOLDERS
from pipeline.errors import DataError
from pipeline.predict.layout import Array, Column
from pipeline.predict.rows import Row
from pipeline.predict.student import Described
from pipeline.tasks import BUILT_IN, GLUE_NAMES

SITE_ROWS = {
    "CoLA": 1063,
    "SST-2": 1821,
    "MRPC": 1725,
    "STS-B": 1379,
    "QQP": 390_965,
    "MNLI-m": 9796,
    "MNLI-mm": 9847,
    "QNLI": 5463,
    "RTE": 3000,
    "WNLI": 146,
    "AX": 1104,
}
OF_MNLI = ("MNLI-m", "MNLI-mm", "AX")
BY_NAME = frozenset({"mnli", "qnli", "rte"})  # the others are submitted as class indices
SCALE = (0.0, 5.0)  # of STS-B


@dataclass(frozen=True)
class Submission:
    """The layout of one file: index and prediction."""

    values: tuple[str, ...]
    """What the site calls each of the student's outputs; () for STS-B's numbers."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return ("index", "prediction")

    def columns(self, rows: Sequence[Row], outputs_NK: Array) -> list[Column]:
        """Values of each column."""
        index = [row.index for row in rows]
        if not self.values:
            return [index, outputs_NK[:, 0].clip(*SCALE)]
        return [index, [self.values[place] for place in outputs_NK.argmax(-1)]]


def submission_of(student: Described) -> Submission:
    """How a student's outputs are written for the site.

    Raises:
        DataError: a student of no GLUE task, or with labels that are not the task's.
    """
    if student.task not in GLUE_NAMES:
        raise DataError(
            f"{student.name}: of task {student.task or 'unknown'}; --glue-submission is for "
            f"students of {', '.join(GLUE_NAMES)}."
        )
    names = BUILT_IN[student.task].label_names
    if sorted(student.labels) != sorted(names):
        raise DataError(
            f"{student.name}: its labels are {', '.join(student.labels) or 'a number'}; "
            f"expected those of {student.task}: {', '.join(names) or 'a number'}."
        )
    if student.task in BY_NAME:
        return Submission(student.labels)
    return Submission(tuple(str(names.index(label)) for label in student.labels))


def submission_path(task: str, target: Path, source_name: str) -> Path:
    """The file to write.

    Args:
        task: a GLUE task.
        target: a folder, or a file named as the site wants it.
        source_name: of the input; tells MNLI's matched from its mismatched rows.

    Raises:
        DataError: a file name that is not the site's, or an input whose name does not tell.
    """
    known = OF_MNLI if task == "mnli" else (FOLDERS[task],)
    if target.suffix == ".tsv":
        if target.stem not in known:
            files = ", ".join(f"{name}.tsv" for name in known)
            raise DataError(f"{target}: the site's name of a file for {task} is {files}.")
        return target
    if len(known) == 1:
        return target / f"{known[0]}.tsv"
    return target / f"{_of_mnli(target, Path(source_name).stem)}.tsv"


def _of_mnli(target: Path, stem: str) -> str:
    if "mismatched" in stem:
        return "MNLI-mm"
    if "matched" in stem:
        return "MNLI-m"
    if "diagnostic" in stem or stem.lower() == "ax":
        return "AX"
    raise DataError(
        f"{stem}: is this MNLI's matched or mismatched test split, or the diagnostic set? Say so "
        f"by the file's name: --glue-submission {target / 'MNLI-m.tsv'} (or MNLI-mm.tsv, AX.tsv)."
    )


def rows_warning(path: Path, rows: int) -> str | None:
    """Say when a submission has another number of rows than the site expects.

    Args:
        path: as `submission_path` gives it, no link followed: its name is the site's.
        rows: how many were written.
    """
    expected = SITE_ROWS[path.stem]
    if rows == expected:
        return None
    return f"{path.name}: the site expects {expected:,} rows, this has {rows:,}."
