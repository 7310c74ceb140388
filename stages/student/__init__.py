"""`pkd-student`: stage two, students from a cache."""

from __future__ import annotations

from stages.cli import commands
from stages.student.evaluate import evaluate_student
from stages.student.fit import fit
from stages.student.push import push
from stages.student.sweep import sweep


@commands("pkd-student", "Train and score students from a teacher cache.")
def cli() -> None:
    """The group."""


for command in (fit, sweep, evaluate_student, push):
    cli.add_command(command)
