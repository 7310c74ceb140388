"""The sections made of single answers, in a built report: pytest <this file>."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_score, recall_score

from pipeline.files import write_json
from pipeline.params import ReportParams
from pipeline.report.build import build_report
from pipeline.report.formats import KEEP
from pipeline.student.logits import VALIDATION_LOGITS
from tests.pipeline.report.shelf import (
    HOSTILE_WORDS,
    ROWS,
    Shelf,
    copy_of,
    examples,
    teacher_states,
    tiny_bert,
)
from tests.pipeline.report.test_report_sweeps import record as sweep_record

QUIET = ReportParams(latency_rows=0, similarity_rows=0)
LABELS = np.array(examples()["label"].to_pylist())
LENGTHS = np.array([len(row) for row in examples()["input_ids"].to_pylist()])


def answers(seed: int, scale: float = 2.0) -> np.ndarray:
    """(37, 2) made-up logits."""
    drawn = np.random.default_rng(seed).normal(size=(ROWS, 2)) * scale
    return drawn.astype(np.float32)


def teacher() -> np.ndarray:
    return teacher_states(tiny_bert(4, seed=1), examples())[1]


def build(shelf: Shelf, params: ReportParams = QUIET) -> tuple[str, str]:
    """Markdown, and HTML; with ordinary spaces."""
    out = shelf.root / "report"
    build_report(shelf.sources, out, params)
    markdown, html = ((out / f"report.{kind}").read_text("utf-8") for kind in ("md", "html"))
    return markdown.replace(KEEP, " "), html.replace(KEEP, " ")


def section(markdown: str, heading: str) -> str:
    """What stands under a heading."""
    return markdown.split(f"### {heading}")[1].split("\n### ")[0].split("\n## ")[0]


def cells(part: str, model: str) -> list[list[str]]:
    """The lines of a model in the tables of a part, without name and layers."""
    lines = [line for line in part.splitlines() if line.startswith(f"| {model} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][2:] for line in lines]


def points(*values: float) -> str:
    """Mean and deviation, by numpy."""
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


@pytest.fixture(scope="module")
def built(prototype: Shelf, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One finetuned student, two seeds of skip."""
    shelf = copy_of(prototype, tmp_path_factory.mktemp("answers") / "data")
    shelf.answer(answers(0), strategy="finetune")
    shelf.answer(answers(1), strategy="skip", seed=0)
    shelf.answer(answers(2, scale=9.0), strategy="skip", seed=1)
    return build(shelf)


def test_classes_are_scored_as_scikit_learn_does(built: tuple[str, str]) -> None:
    part = section(built[0], "Right by class and by length")
    for model, seeds in (
        ("teacher", [teacher()]),
        ("finetune", [answers(0)]),
        ("skip", [answers(1), answers(2, 9.0)]),
    ):
        expected = []
        for label in (0, 1):
            for score in (recall_score, precision_score):
                said = [each.argmax(-1) for each in seeds]
                expected.append(points(*(score(LABELS, s, pos_label=label) for s in said)))
        assert cells(part, model)[0] == expected
    rows = f"entailment {(LABELS == 0).sum()}, not_entailment {(LABELS == 1).sum()}"
    assert f"Rows: {rows}." in part


def test_lengths_are_scored_as_scikit_learn_does(built: tuple[str, str]) -> None:
    part = section(built[0], "Right by class and by length")
    heads = re.findall(r"\| (\d+)(?:–(\d+))? \(n=(\d+)\)", part.replace("|", "| |"))
    assert len(heads) == 4
    assert sum(int(n) for _, _, n in heads) == ROWS
    expected = []
    for low, high, n in heads:
        inside = (int(low) <= LENGTHS) & (int(high or low) >= LENGTHS)
        assert inside.sum() == int(n)
        said = [each[inside].argmax(-1) for each in (answers(1), answers(2, 9.0))]
        expected.append(points(*(accuracy_score(LABELS[inside], s) for s in said)))
    assert cells(part, "skip")[1] == expected


def test_agreement_by_sets_of_rows(built: tuple[str, str]) -> None:
    taught = teacher().argmax(-1)
    known = set(np.flatnonzero(taught == LABELS))
    expected: list[list[float]] = [[] for _ in range(5)]
    divergences = []
    for logits in (answers(1), answers(2, 9.0)):
        learnt = set(np.flatnonzero(logits.argmax(-1) == LABELS))
        same = np.flatnonzero(logits.argmax(-1) == taught)
        either = known | learnt
        sets: list[Any] = [
            same,
            known & learnt,
            known - learnt,
            learnt - known,
            set(range(ROWS)) - either,
        ]
        for column, rows in zip(expected, sets, strict=True):
            column.append(len(rows) / ROWS)
        said, told = (torch.from_numpy(x).double().log_softmax(-1) for x in (logits, teacher()))
        divergences.append(
            float(torch.nn.functional.kl_div(said, told, reduction="batchmean", log_target=True))
        )
    (found,) = cells(section(built[0], "Agreement with the teacher"), "skip")
    assert found[:5] == [points(*column) for column in expected]
    assert found[5] == f"{np.mean(divergences):.3f} ± {np.std(divergences, ddof=1):.3f}"


def test_calibration_before_and_after(built: tuple[str, str]) -> None:
    from tests.pipeline.report.answers.test_calibration import plain_error

    part = section(built[0], "Calibration, before and after distillation")
    assert "over 15 bins" in part
    for model, seeds in (
        ("teacher", [teacher()]),
        ("finetune", [answers(0)]),
        ("skip", [answers(1), answers(2, 9.0)]),
    ):
        errors = [plain_error(LABELS.tolist(), each.tolist()) for each in seeds]
        (found,) = cells(part, model)
        assert found[0] == points(*errors)
    shown = re.findall(r"<text[^>]*>(ECE [\d.]+)</text>", built[1])
    assert len(shown) == 3
    assert shown[0] == f"ECE {points(plain_error(LABELS.tolist(), teacher().tolist()))}"


def test_disagreements_are_text_that_runs_nothing(shelf: Shelf) -> None:
    """A student that says the opposite of the teacher, so that every right row is a mistake."""
    shelf.answer(-teacher(), strategy="kd")
    markdown, html = build(shelf, ReportParams(latency_rows=0, similarity_rows=0, disagreements=99))
    known = np.flatnonzero(teacher().argmax(-1) == LABELS)
    texts: list[str] = []

    class Reader(HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag != "script"
            self.inside = tag == "p" and not attrs

        def handle_data(self, data: str) -> None:
            if self.inside and data.strip():
                texts.append(data)
                self.inside = False

    Reader().feed(html.split("<blockquote>", 1)[1].split("</details>")[0])
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *HOSTILE_WORDS]
    words += [f"w{number}" for number in range(len(words), 64)]
    rows = examples()["input_ids"].to_pylist()
    expected = {" ".join(words[i] for i in rows[place]) for place in known}
    assert set(texts) == expected
    assert any("<script>" in text for text in expected)
    for page in (markdown, html):
        assert "<script" not in page
        assert "<b>" not in page
    quotes = [line for line in markdown.splitlines() if "the student says" in line]
    assert len(quotes) == len(known)
    confidence = [int(re.findall(r"(\d+) %", line)[1]) for line in quotes]
    assert confidence == sorted(confidence, reverse=True)


def test_disagreements_can_be_left_out(shelf: Shelf) -> None:
    shelf.answer(-teacher(), strategy="kd")
    markdown, html = build(shelf, ReportParams(latency_rows=0, similarity_rows=0, disagreements=0))
    assert "_Left out: disagreements is 0._" in markdown
    assert "<blockquote>" not in html


def test_texts_need_the_tokens_own_tokenizer(shelf: Shelf) -> None:
    folder = shelf.answer(-teacher(), strategy="kd")
    (folder / "tokenizer.json").unlink()
    markdown, _ = build(shelf)
    assert "_Texts are left out for rte-kd-2-s0: it has no tok" in markdown
    assert markdown.count("the student says") == 5


def test_students_without_answers_are_named_and_the_rest_shown(shelf: Shelf) -> None:
    shelf.answer(answers(1), strategy="skip")
    shelf.add(strategy="kd")
    part = section(build(shelf)[0], "Right by class and by length")
    assert f"_Left out for rte-kd-2-s0: no {VALIDATION_LOGITS}; `pkd-student eval" in part.replace(
        "\\", ""
    )
    assert cells(part, "skip")
    assert not cells(part, "kd")


def test_answers_that_are_not_the_records_are_left_out(shelf: Shelf) -> None:
    folder = shelf.answer(answers(1), strategy="skip")
    shelf.answer(answers(2), strategy="kd")
    shutil.copy(shelf.sources.students / "rte-kd-2-s0" / VALIDATION_LOGITS, folder)
    part = section(build(shelf)[0], "Right by class and by length")
    scores = [float((answers(s).argmax(-1) == LABELS).mean()) for s in (2, 1)]
    assert scores[0] != scores[1]
    told = f"{VALIDATION_LOGITS} gives accuracy {scores[0]:.4f}, its record {scores[1]:.4f}"
    assert told in part.replace("\\", "")
    assert not cells(part, "skip")


def test_a_report_without_any_new_input_says_what_is_missing(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    shutil.rmtree(shelf.sources.metrics)
    markdown, html = build(shelf)
    assert "Left out for rte-skip-2-s0: no validation-logits.parquet" in markdown.replace("\\", "")
    assert "_Left out: no sweep of this task is there; \\`pkd-student sweep\\` makes" in markdown
    assert "The probe curve is left out: nobody kept one" in markdown
    assert "Score against latency is left out" in markdown
    for heading in ("Calibration", "Agreement", "Worst disagreements", "What each teacher layer"):
        assert f"### {heading}" not in markdown
        assert heading not in html


def test_sweeps_and_probes_stand_in_both_pages(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    write_json(shelf.sources.metrics / "sweep-grid.json", sweep_record(name="<i>grid"))
    layers = [{"layer": n, "held_out": n / 10, "validation": n / 11} for n in (1, 2, 3)]
    probes = {"task": "rte", "metric": "accuracy", "layers": layers}
    write_json(shelf.sources.metrics / "probe-rte.json", probes)
    markdown, html = build(shelf)
    part = section(markdown, "Sweep &lt;i&gt;grid: what mattered")
    assert "6 students, 1 more failed" in part
    assert cells(part, "temperature")[0][1:] == ["72.5", "1", "52.5"]
    assert "| 75.0 | 20 | 0.8 | kd | s5 |" in part or "| 75.0 | 0.8 | kd | 20 | s5 |" in part
    assert "figures/rte-probes.svg" in section(markdown, "What each teacher layer knows")
    assert "<i>grid" not in html
    assert {"rte-probes.svg", "rte-sweep-1-values.svg"} <= {
        path.name for path in (shelf.root / "report" / "figures").iterdir()
    }


def test_the_probes_of_strategy_auto_are_drawn(shelf: Shelf) -> None:
    probes = {"layers": [3], "metric": "accuracy", "held_out": {"1": 0.5, "2": 0.6, "10": 0.9}}
    shelf.add(strategy="auto", layer_map=[[1, 3]], probes=probes)
    markdown, html = build(shelf)
    assert "### What each teacher layer knows" in markdown
    assert "held-out train" in html
    assert "nobody kept one" not in markdown


def test_every_run_is_in_the_page_with_its_record(shelf: Shelf) -> None:
    shelf.add(strategy="kd", params={"note": "</pre><script>alert(1)</script>", "alpha": 0.25})
    markdown, html = build(shelf)
    blocks = re.findall(r"<pre>(.*?)</pre>", html, re.DOTALL)
    assert len(blocks) == 1
    assert "&#34;alpha&#34;: 0.25" in blocks[0]
    assert "&lt;script&gt;" in blocks[0]
    assert "<script" not in html
    assert "* rte-kd-2-s0: accuracy 66.0, 6.0 s on cpu" in markdown


def test_the_frontier_is_in_the_table(shelf: Shelf) -> None:
    """Sizes 40 kB and 20 kB, the teacher's 80 kB and 70.0."""
    shelf.add(strategy="kd", score=0.66)
    shelf.add(strategy="skip", score=0.64)
    shelf.add(strategy="last", depth=1, score=0.60, size_bytes=20_000)
    shelf.add(strategy="finetune", depth=1, score=0.58, size_bytes=20_000)
    markdown, _ = build(shelf)
    part = section(markdown, "What to deploy: score against latency and size")
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0].strip("| ") for line in lines] == ["last", "kd", "teacher rte"]
    assert "| kd | 2 | 66.0 | 40.0 kB | – | size |" in lines


def test_every_link_of_the_page_has_its_place(built: tuple[str, str]) -> None:
    places = re.findall(r'href="#([^"]+)"', built[1])
    found = re.findall(r' id="([^"]+)"', built[1])
    assert len(places) >= 8
    assert all(found.count(place) == 1 for place in places)


def test_the_sweeps_of_the_report_are_those_that_the_command_writes(tmp_path: Path) -> None:
    from pipeline.report.sweeps import parse_sweep
    from pipeline.sweep.space import describe_space, parse_space
    from pipeline.sweep.states import TrialState

    assert TrialState.__dataclass_fields__.keys() >= {"point", "score", "folder"}
    space = parse_space(["temperature=5,10", "learning_rate=1e-5..1e-4:log"])
    points = {"a": {"temperature": 5.0, "learning_rate": 2e-5}}
    content = sweep_record(space=describe_space(space), points=points, scores={"a": 0.5})
    assert parse_sweep(content).trials[0].point == points["a"]
