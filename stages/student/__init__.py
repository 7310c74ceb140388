"""`pkd-student`: stage two, students from a cache."""

from __future__ import annotations

from stages.cli import commands
from stages.student.bench import bench
from stages.student.evaluate import evaluate_student
from stages.student.export import export
from stages.student.fit import fit
from stages.student.predict import predict
from stages.student.push import push
from stages.student.sweep import sweep


@commands("pkd-student", "Train, score and use students of a teacher cache.")
def cli() -> None:
    """The group."""


for command in (fit, sweep, evaluate_student, predict, export, bench, push):
    cli.add_command(command)
