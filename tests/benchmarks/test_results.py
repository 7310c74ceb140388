"""pytest tests/benchmarks/test_results.py - the page of results: its numbers and its words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.results.findings import Findings, gather
from benchmarks.results.page import fill, page_text, write_page
from benchmarks.results.plan import Experiment, Plan, load_plan
from benchmarks.results.records import Record, Records
from benchmarks.results.tables import choices_table, results_table
from benchmarks.results.verdicts import verdicts
from tests.benchmarks.made_up import FACTS, findings, store, student, teacher, tried

ROOT = Path(__file__).parent.parent.parent


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a table by their first cell, with plain spaces."""
    lines = [line.strip("|").split("|") for line in table.replace("\xa0", " ").splitlines()]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def said(found: Findings) -> dict[str, list[str]]:
    """Verdicts, lists by head."""
    plain = [(v.head.replace("\xa0", " "), v.lines) for v in verdicts(found)]
    return {head: [line.replace("\xa0", " ") for line in lines] for head, lines in plain}


# ------------------------------------------------------------------------------------- choices


def test_the_best_on_held_out_rows_is_chosen(plan: Plan, tmp_path: Path) -> None:
    found = findings(plan, tmp_path)
    lines = choices_table(found).replace("\xa0", " ").splitlines()
    assert lines[0] == "| tried with | taken over by | settings |  | f1 / accuracy, held-out rows |"
    assert lines[2:] == [
        "| teacher | teacher | learning_rate 1e-05 | chosen | 80.0 / 70.0 |",  # a tie: the first
        "| teacher | teacher | learning_rate 2e-05 |  | 80.0 / 70.0 |",
        "| finetune | finetune, kd, skip | learning_rate 3e-05 |  | 60.0 / 50.0 |",
        "| finetune | finetune, kd, skip | learning_rate 4e-05 | chosen | 70.0 / 60.0 |",
        "| kd | kd, skip | alpha 0.5, temperature 10 | chosen | 72.0 / 62.0 |",
        "| kd | kd, skip | alpha 0.9, temperature 2 |  | 71.0 / 61.0 |",
        "| skip | skip | beta 100 |  | 73.0 / 63.0 |",
        "| skip | skip | beta 1000 | chosen | 74.0 / 64.0 |",
    ]


def test_nothing_is_chosen_while_a_candidate_is_missing(
    plan: Plan, small: Experiment, tmp_path: Path
) -> None:
    made = [each for each in tried() if each.settings.get("alpha") != 0.9]
    found = gather(plan, small, store(tmp_path, [*made, student("finetune", 0.7)]))
    rows = choices_table(found).replace("\xa0", " ").splitlines()
    assert "| kd | kd, skip | alpha 0.5, temperature 10 |  | 72.0 / 62.0 |" in rows
    assert "| kd | kd, skip | alpha 0.9, temperature 2 |  | - |" in rows
    assert "| skip | skip | beta 100 |  | - |" in rows  # it would start from what kd has chosen
    assert found.choices.by_strategy == {
        "finetune": {"learning_rate": 4e-5}, "kd": None, "skip": None, "emd": None
    }  # fmt: skip
    assert cells(results_table(found))["finetune"][0] == "70.0 (1)"


def test_runs_with_settings_that_were_chosen_earlier_are_no_seeds(
    plan: Plan, tmp_path: Path
) -> None:
    earlier = student("kd", 0.9, seed=1)
    earlier = replace(earlier, settings=earlier.settings | {"alpha": 0.9, "temperature": 2})
    found = findings(plan, tmp_path, student("kd", 0.7), earlier)
    assert cells(results_table(found))["kd"][0] == "70.0 (1)"
    assert found.left_out == 1
    assert "Left out: 1 run on record" in page_text(plan, [found], [])


# --------------------------------------------------------------------------------------- tables


def test_the_table_by_hand(plan: Plan, tmp_path: Path) -> None:
    runs = [
        student("kd", f1, seed, seconds=(60.0, 61.0, 900.0)[seed])
        for seed, f1 in enumerate((0.6, 0.63, 0.66))
    ]
    wide = FACTS | {"train_rows": 1100, "labelled_rows": 40, "block_passes": 6}
    found = findings(
        plan, tmp_path, teacher(0.75), student("finetune", 0.6), *runs,
        student("skip, all rows", 0.75, facts=wide),
    )  # fmt: skip
    table = cells(results_table(found))
    assert list(table) == [
        "", "---", "teacher", "finetune", "kd", "skip", "skip, all rows", "long"
    ]  # fmt: skip
    assert table[""] == [
        "f1", "accuracy", "of the teacher's", "time per run", "parameters", "training rows"
    ]  # fmt: skip
    assert table["teacher"] == ["75.0 (1)", "65.0 (1)", "-", "1 min 00 s", "17.4 M", "40"]
    # sqrt((0.03^2 + 0 + 0.03^2) / 2) = 0.03; 0.63 / 0.75 = 0.84; 61 s
    assert table["kd"] == [
        "63.0 ± 3.0 (3)", "53.0 ± 3.0 (3)", "84.0 %", "1 min 01 s", "17.4 M", "40"
    ]  # fmt: skip
    assert table["finetune"][:3] == ["60.0 (1)", "50.0 (1)", "80.0 %"]
    assert table["skip"] == ["-"] * 6
    assert table["skip, all rows"][2:] == [
        "100.0 %", "1 min 00 s", "17.4 M, 6 block passes", "40 + 1,060"
    ]  # fmt: skip


def test_nothing_is_kept_of_a_teacher_without_runs_or_score(plan: Plan, tmp_path: Path) -> None:
    alone = findings(plan, tmp_path / "a", student("kd", 0.7))
    assert cells(results_table(alone))["kd"][2] == "-"
    poor = findings(plan, tmp_path / "b", teacher(0.0), student("kd", 0.7))
    assert cells(results_table(poor))["kd"][2] == "-"


def test_facts_that_are_not_recorded_are_empty(plan: Plan, tmp_path: Path) -> None:
    found = findings(plan, tmp_path, student("kd", 0.7, facts={}))
    assert cells(results_table(found))["kd"] == [
        "70.0 (1)",
        "60.0 (1)",
        "-",
        "1 min 00 s",
        "-",
        "-",
    ]


# -------------------------------------------------------------------------------------- verdicts


def seeds(method: str, *scores: float) -> list[Record]:
    return [student(method, f1, seed) for seed, f1 in enumerate(scores)]


def test_what_helps_what_does_not_and_what_harms(plan: Plan, tmp_path: Path) -> None:
    found = findings(
        plan, tmp_path, *seeds("finetune", 0.70, 0.71, 0.72), *seeds("kd", 0.71, 0.70, 0.74),
        *seeds("skip", 0.80, 0.81, 0.82), *seeds("skip, all rows", 0.6, 0.61, 0.62),
        *seeds("long", 0.9),
    )  # fmt: skip
    assert said(found) == {
        "Against `finetune`, which learns the labels alone (71.0 ± 1.0 (3)):": [
            "Above it, beyond the noise of the seeds: `skip` (+10.0).",
            "Not distinguishable from it, so that no help is shown: `kd` (+0.7).",
            "Below it, beyond the noise of the seeds: `skip, all rows` (−10.0).",
            "Nothing can be said yet of `long` (1 seed).",
        ],
        # of other training rows, `skip, all rows` does not show what [CLS] adds
        "Against `kd`, which learns the labels and the logits (71.7 ± 2.1 (3)):": [
            "Above it, beyond the noise of the seeds: `skip` (+9.3)."
        ],
        "Nothing can be said yet of what is above or below `long` (1 seed): with fewer than two "
        "seeds there is no spread to measure a difference by.": [],
    }


def taught(gap: str) -> str:
    return f"`kd` ({gap}), `skip` ({gap}) and `skip, all rows` ({gap})"


def test_it_is_said_when_nothing_helps(plan: Plan, tmp_path: Path) -> None:
    same = (0.70, 0.71, 0.72)
    alike = ("finetune", "kd", "skip", "skip, all rows")
    runs = [run for name in alike for run in seeds(name, *same)]
    found = findings(plan, tmp_path, *runs, *seeds("long", 0.8, 0.81, 0.82))
    none = "None of those measured so far helps here, as far as these seeds can tell."
    by_first_words = {head.split(",")[0]: lines for head, lines in said(found).items()}
    assert by_first_words["Against `finetune`"] == [
        "Above it, beyond the noise of the seeds: `long` (+10.0).",
        f"Not distinguishable from it, so that no help is shown: {taught('+0.0')}.",
    ]
    # longer training with the labels alone is measured against what learns from a teacher
    assert by_first_words["Against `long`"] == [
        f"Below it, beyond the noise of the seeds: {taught('−10.0')}.",
        none,
    ]
    assert by_first_words["Against `kd`"][-1] == none


@pytest.mark.parametrize("scores", [(), (0.7,)])
def test_fewer_than_two_seeds_say_nothing(
    plan: Plan, tmp_path: Path, scores: tuple[float, ...]
) -> None:
    found = findings(plan, tmp_path, *seeds("finetune", *scores), *seeds("kd", *scores))
    ((head, lines),) = said(found).items()
    assert head.startswith("Nothing can be said yet of what is above or below `finetune` (")
    assert "`long` (0 seeds)" in head
    assert lines == []


# -------------------------------------------------------------------------------------- the page


def test_the_page_of_a_run_that_has_just_begun(plan: Plan, tmp_path: Path) -> None:
    write_page(plan, tmp_path / "records", tmp_path / "docs" / "results.md")
    text = (tmp_path / "docs" / "results.md").read_text("utf-8")
    assert "\n## A small one\n\n|  | f1 | accuracy |" in text
    assert "| skip, all rows | - | - | - | - | - | - |\n" in text
    assert "Students have 3 layers" in text
    assert "one\nin 5 of the labelled" in text
    assert "Teacher: epochs 3." in text.replace("\n", " ")
    assert "\xa0" not in text
    assert "\n\n\n" not in text
    assert text.endswith(".\n")
    lines = [line for line in text.splitlines() if not line.startswith(("|", "`"))]
    assert max(len(line) for line in lines) <= 120


def test_the_page_shows_what_the_runs_recorded(plan: Plan, tmp_path: Path) -> None:
    base = {"name": "some/encoder", "hub_id": "some/encoder", "digest": "a" * 64}
    facts = FACTS | {"device": "cpu", "threads": 2, "precision": "float32"}
    more = {"base": base, "layers": 6}
    store(tmp_path, [*tried(), teacher(0.8, facts=facts | more), student("kd", 0.7, facts=facts)])
    write_page(plan, tmp_path, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text("utf-8")
    assert (
        "Encoder: `some/encoder`. Layers of the teacher: 6. Parameters of the teacher: 17.4 M. "
        "Trained on: cpu, 2 threads,\nfloat32.\n"
    ) in text
    assert "Held out: 8 rows, so that one of them is 12.50 points of accuracy;" in text
    folder = {"name": "model", "hub_id": None, "digest": "0123456789"}
    found = gather(plan, plan.experiments[0], Records("small", tmp_path))
    row = replace(found.teacher, runs=(teacher(0.8, facts={"base": folder}),))
    text = page_text(plan, [replace(found, teacher=row)], [])
    assert "Encoder: a folder named `model`, digest 01234567. Trained on:" in text
    named = replace(plan, encoders={"01234567": "Small"})
    text = page_text(named, [replace(found, teacher=row)], [])
    assert "Encoder: Small. Trained on:" in text


def test_names_are_never_broken_so_that_no_line_begins_a_list() -> None:
    name = "`sps\xa0+\xa0ptp`"
    filled = fill(f"{'word ' * 21}some more {name}")
    assert filled.splitlines()[-1] == name


def test_the_committed_page_is_made_from_the_committed_records(tmp_path: Path) -> None:
    write_page(load_plan(), ROOT / "docs" / "results", tmp_path / "results.md")
    made, committed = tmp_path / "results.md", ROOT / "docs" / "results.md"
    assert committed.read_text("utf-8") == made.read_text("utf-8"), (
        "docs/results.md is not what its records say: run `python -m benchmarks.results`"
    )


def test_the_plan_can_be_followed() -> None:
    plan = load_plan()
    for experiment in plan.experiments:
        assert experiment.methods[0].strategy == "finetune"  # what the others are measured against
        tuned = [choice.strategies for choice in plan.choices]
        for method in experiment.methods:
            assert any(method.strategy in strategies for strategies in tuned), method
