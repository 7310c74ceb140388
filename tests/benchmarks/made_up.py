"""Made-up records of an experiment, and its plan, for tests of the page of results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.results.findings import Findings, gather
from benchmarks.results.plan import Plan, load_plan
from benchmarks.results.records import Record, Records

PLAN = """
seeds: [0, 1, 2]
hold_out: 5
teacher: {epochs: 3, keep: last}
student: {epochs: 4, student_layers: 3, keep: last}
experiments:
  small:
    title: A small one
    task: mrpc
    glue: MRPC
    rows: 100
    labelled: 40
    methods:
      finetune: {from: labelled, strategy: finetune}
      kd: {from: labelled, strategy: kd}
      skip: {from: labelled, strategy: skip}
      skip, all rows: {strategy: skip, share: sps}
      long: {from: labelled, strategy: finetune, epochs: 40}
choose:
  teacher: [{learning_rate: 1.0e-5}, {learning_rate: 2.0e-5}]
  students:
    - method: {strategy: finetune}
      values: [{learning_rate: 3.0e-5}, {learning_rate: 4.0e-5}]
      for: [finetune, kd, skip, emd]
    - method: {strategy: kd}
      values: [{alpha: 0.5, temperature: 10}, {alpha: 0.9, temperature: 2}]
      for: [kd, skip, emd]
    - method: {strategy: skip}
      values: [{beta: 100}, {beta: 1000}]
      for: [skip]
    - method: {strategy: emd}
      values: [{beta: 1}]
      for: [emd]
"""
TEACHER = {"epochs": 3, "keep": "last"}
STUDENT = {"epochs": 4, "student_layers": 3, "keep": "last"}
FACTS = {"parameters": 17_390_594, "train_rows": 40, "labelled_rows": 40, "block_passes": 3}
CHOSEN = {"learning_rate": 4e-5, "alpha": 0.5, "temperature": 10, "beta": 1000}


def make_plan(folder: Path) -> Plan:
    folder.mkdir(exist_ok=True)
    (folder / "plan.yaml").write_text(PLAN)
    return load_plan(folder / "plan.yaml")


def record(method: str, settings: dict[str, Any], f1: float, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "phase": "final", "method": method, "seed": 0, "settings": settings, "facts": FACTS,
        "scores": {"f1": f1, "accuracy": f1 - 0.1}, "seconds": 60.0,
    }  # fmt: skip
    return Record(**values | changes)


def teacher(f1: float, rate: float = 1e-5, **changes: Any) -> Record:
    return record("teacher", TEACHER | {"learning_rate": rate}, f1, **changes)


def student(method: str, f1: float, seed: int = 0, **changes: Any) -> Record:
    """A final run with the settings that `tried` leads to."""
    strategy = "finetune" if method == "long" else method.split(",")[0]
    names = {"finetune": ["learning_rate"], "kd": ["learning_rate", "alpha", "temperature"]}
    settings = STUDENT | {key: CHOSEN[key] for key in names.get(strategy, CHOSEN)}
    settings |= {"strategy": strategy}
    settings |= {"epochs": 40} if method == "long" else {}
    settings |= {"share": "sps"} if method == "skip, all rows" else {}
    return record(method, settings, f1, seed=seed, **changes)


def tried() -> list[Record]:
    """Choices: the teacher's tie goes to the first, the others to what CHOSEN has."""
    rate = {"learning_rate": 4e-5}
    kd = rate | {"alpha": 0.5, "temperature": 10}
    settings = [
        ("finetune", {"learning_rate": 3e-5}, 0.6), ("finetune", rate, 0.7),
        ("kd", kd, 0.72), ("kd", rate | {"alpha": 0.9, "temperature": 2}, 0.71),
        ("skip", kd | {"beta": 100}, 0.73), ("skip", kd | {"beta": 1000}, 0.74),
    ]  # fmt: skip
    facts = FACTS | {"labelled_rows": 32}
    return [
        *(teacher(0.8, rate, phase="choice", facts=facts) for rate in (1e-5, 2e-5)),
        *(
            record(name, STUDENT | values | {"strategy": name}, f1, phase="choice")
            for name, values, f1 in settings
        ),
    ]


def store(folder: Path, found: Iterable[Record]) -> Records:
    records = Records("small", folder)
    for each in found:
        records.add(each)
    return records


def findings(plan: Plan, folder: Path, *final: Record) -> Findings:
    return gather(plan, plan.experiments[0], store(folder, [*tried(), *final]))
