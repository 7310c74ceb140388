"""pytest tests/benchmarks/test_results_runs.py - rows, choices, no run twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.results import __main__ as command
from benchmarks.results.choices import replay
from benchmarks.results.data import labelled_and_not, without_held_out, write_source
from benchmarks.results.findings import gather
from benchmarks.results.plan import Experiment, Plan
from benchmarks.results.records import Records
from benchmarks.results.run import Runs, Stage
from tests.benchmarks.made_up import STUDENT, store, student, teacher
from tests.support.tiny import World


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    first, second = student("skip", 0.7), teacher(0.9)
    records = store(tmp_path / "new", [first, second])
    assert list(records) == [first, second]
    assert next(iter(records)).main == 0.7  # the first of the scores, in the order of the run
    assert records.find("final", "skip", 0, first.settings) == first
    assert records.find("final", "skip", 1, first.settings) is None
    assert records.find("final", "skip", 0, first.settings | {"beta": 1}) is None
    assert list(Records("other", tmp_path)) == []


def train_table(rows: int) -> Any:
    names = {"example_id": range(rows), "sentence": [f"s{n}" for n in range(rows)]}
    return pa.table(
        {**{k: list(v) for k, v in names.items()}, "label": [n % 2 for n in range(rows)]}
    )


def test_labelled_rows_and_the_others_are_drawn_apart() -> None:
    train = train_table(50)
    labelled, others = labelled_and_not(train, 30, 12)
    assert (labelled.num_rows, others.num_rows) == (12, 18)
    assert labelled.column_names == ["sentence", "label"]
    assert others.column_names == ["sentence"]
    assert not set(labelled["sentence"].to_pylist()) & set(others["sentence"].to_pylist())
    for sentence, label in zip(
        *(labelled[name].to_pylist() for name in labelled.column_names), strict=True
    ):
        assert label == int(sentence[1:]) % 2
    again = labelled_and_not(train, 30, 12)
    assert labelled.equals(again[0])
    assert others.equals(again[1])


def test_all_rows_are_all_rows() -> None:
    labelled, others = labelled_and_not(train_table(11), None, None)
    assert labelled["sentence"].to_pylist() == [f"s{n}" for n in range(11)]
    assert others.num_rows == 0


@pytest.mark.parametrize(("rows", "held_out"), [(40, 8), (41, 9), (2490, 498)])
def test_a_fifth_is_held_out(rows: int, held_out: int) -> None:
    labelled = train_table(rows).drop_columns("example_id")
    train, held = without_held_out(labelled, 5)
    assert held.num_rows == held_out
    found = train["sentence"].to_pylist() + held["sentence"].to_pylist()
    assert sorted(found) == sorted(labelled["sentence"].to_pylist())
    assert held.equals(without_held_out(labelled, 5)[1])


def test_files_of_a_source_have_no_ids_and_no_empty_table(tmp_path: Path) -> None:
    train, others = labelled_and_not(train_table(9), None, None)
    write_source(tmp_path / "source", train, train_table(3), others)
    files = {path.stem: pq.read_table(path) for path in (tmp_path / "source").iterdir()}
    assert {name: table.num_rows for name, table in files.items()} == {"train": 9, "validation": 3}
    assert {tuple(table.column_names) for table in files.values()} == {("sentence", "label")}


@dataclass(frozen=True)
class FakeStage(Stage):
    """Trains nothing: a score for each call, and the calls."""

    calls: list[str] = field(default_factory=list)

    def teacher(self, settings: Any, name: str) -> tuple[Path, dict[str, Any]]:
        self.calls.append(f"teacher {name}")
        return self.folder / f"teacher-{name}", _run(settings)

    def cache(self, teacher: Path, labelled_only: bool) -> Path:
        return self.folder / f"{teacher.name}-{labelled_only}.zarr"

    def student(self, cache: Path, settings: Any, seed: int) -> dict[str, Any]:
        self.calls.append(f"{cache.stem} {seed} {json.dumps(settings)}")
        return _run(settings) | {"pretrain": {"seconds": 2.0}}


def _run(settings: Any) -> dict[str, Any]:
    """The higher the rate, alpha and beta the better, but for the teacher, where all are equal.

    A command's JSON has its scores by name; here the other one would choose the opposite.
    """
    terms = (settings.get(key, 0.0) for key in ("alpha", "beta"))
    f1 = sum(terms) / 1e4 + (settings["learning_rate"] if "strategy" in settings else 0.5)
    scores = {"accuracy": 1 - f1, "f1": f1}
    told = {"seconds": 3.0, "device": "cpu", "else": 1}
    return {"scores": {"validation": scores}, "metric": "f1", **told}


def fake_runs(plan: Plan, records: Records, folder: Path) -> tuple[Runs, list[str]]:
    small = plan.experiments[0]
    choice = FakeStage(small, "choice", "init", folder / "choice")
    final = FakeStage(small, "final", "init", folder / "final", choice.calls)
    return Runs(plan, {"choice": choice, "final": final}, records), choice.calls


def test_runs_choose_then_make_the_table_seed_by_seed(plan: Plan, tmp_path: Path) -> None:
    records = Records("small", tmp_path)
    runs, _ = fake_runs(plan, records, tmp_path)
    runs.all()
    found = list(records)
    assert [each.phase for each in found] == ["choice"] * 8 + ["final"] * 16
    assert [each.method for each in found[8:15]] == [
        "teacher", "finetune", "kd", "skip", "skip, all rows", "long", "finetune"
    ]  # fmt: skip
    assert found[8].settings["learning_rate"] == 1e-5  # a tie: the first
    assert {tuple(each.scores) for each in found} == {("f1", "accuracy")}
    (skip,) = [each for each in found if each.method == "skip, all rows" and each.seed == 2]
    assert skip.settings == STUDENT | {
        "learning_rate": 4e-5, "alpha": 0.9, "temperature": 2, "beta": 1000, "strategy": "skip",
        "share": "sps",
    }  # fmt: skip
    assert skip.seconds == 5.0  # with its pretraining
    assert skip.facts == {"device": "cpu"}


def test_what_is_dear_waits_for_all_seeds_of_the_rest(plan: Plan, tmp_path: Path) -> None:
    dear = replace(plan.experiments[0].methods[0], name="dear", round=2)
    experiment = replace(plan.experiments[0], methods=(dear, *plan.experiments[0].methods[:2]))
    records = Records("small", tmp_path)
    runs, _ = fake_runs(replace(plan, experiments=(experiment,)), records, tmp_path)
    runs.all()
    found = [(r.method, r.seed) for r in records if r.phase == "final" and r.method != "teacher"]
    first = [(name, seed) for seed in (0, 1, 2) for name in ("finetune", "kd")]
    assert found == [*first, *(("dear", seed) for seed in (0, 1, 2))]


def test_a_recorded_run_is_never_made_again(plan: Plan, tmp_path: Path) -> None:
    records = Records("small", tmp_path)
    fake_runs(plan, records, tmp_path)[0].all()
    lines = records.path.read_text().splitlines(keepends=True)
    runs, calls = fake_runs(plan, records, tmp_path)
    runs.all()
    assert calls == []
    records.path.write_text("".join(lines[:-2]))  # as if stopped before the last two
    runs, calls = fake_runs(plan, records, tmp_path)
    runs.all()
    assert len([call for call in calls if not call.startswith("teacher ")]) == 2
    assert records.path.read_text() == "".join(lines)


def test_a_stop_half_way_still_writes_the_page(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> dict[str, Stage]:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "prepare_stages", stopped)
    given = ["--glue", "glue", "--init", str(world.encoder), "--records", "found"]
    monkeypatch.setattr("sys.argv", ["results", *given])
    with pytest.raises(KeyboardInterrupt):
        command.main()
    assert Path("found.md").read_text("utf-8").startswith("<!-- Made by")


def test_runs_of_two_encoders_are_never_mixed(tmp_path: Path) -> None:
    records = Records("small", tmp_path)
    records.add(teacher(0.5, facts={"base": {"name": "a", "hub_id": None, "digest": "a" * 64}}))
    records.require_encoder("a" * 64)
    with pytest.raises(SystemExit, match=r"of the encoder a \(aaaaaaaa\), --init is another one"):
        records.require_encoder("b" * 64)


def test_the_page_chooses_as_the_runs_did(plan: Plan, small: Experiment, tmp_path: Path) -> None:
    records = Records("small", tmp_path)
    runs, _ = fake_runs(plan, records, tmp_path)
    teacher_values, by_strategy = runs.choose()
    choices = replay(plan, small, records)
    assert choices.teacher.best
    assert choices.teacher.best.values == teacher_values
    assert choices.by_strategy == by_strategy
    runs.all()
    found = gather(plan, small, records)
    assert [len(row.runs) for row in found.all_rows] == [1, 3, 3, 3, 3, 3]
    assert found.left_out == 0
