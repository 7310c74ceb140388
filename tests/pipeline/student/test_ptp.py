"""pytest tests/pipeline/student/test_ptp.py

Shapes: N rows, K classes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from pipeline.errors import ParamsError
from pipeline.models.load import build_classifier
from pipeline.params import StudentParams
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import fit_student, load_rows
from pipeline.student.ptp import (
    Lesson,
    confidence,
    make_lesson,
    median_thresholds,
    parse_thresholds,
    pretrain,
    ptp_labels,
    task_of,
)
from pipeline.student.recipe import settle
from pipeline.tasks import Task
from pipeline.training.evaluate import predict
from stages.student import cli
from tests.support.tiny import STUDENT, World

CPU = torch.device("cpu")
# two classes, the first one predicted, with probability 0.9, 0.8, 0.6, 0.55; then the second, 0.75
ODDS = (9.0, 4.0, 1.5, 11 / 9, 1 / 3)
LOGITS = np.array([[math.log(odds), 0.0] for odds in ODDS], np.float32)
RIGHT, WRONG = np.array([0, 0, 0, 0, 1]), np.array([1, 1, 1, 1, 0])
PARAMS = replace(STUDENT, pretrain="ptp", pretrain_epochs=2)


class StoppedError(Exception):
    """Stands for a kill."""


def fit(world: World, out: Path, *, resume: bool = False, stop: int = 0, stop_pretrain: int = 0,
        **changes: Any) -> tuple[dict[str, Any], list[int]]:  # fmt: skip
    """The record, and the steps of the pretraining that were told; stops at a step of either."""
    told: list[int] = []

    def on_step(entry: Any) -> None:
        if entry.step == stop:
            raise StoppedError

    def on_pretrain_step(entry: Any) -> None:
        told.append(entry.step)
        if entry.step == stop_pretrain:
            raise StoppedError

    params = replace(PARAMS, **({"init": str(world.encoder)} | changes))
    _, record = fit_student(
        cache_path=world.cache16, out=out, params=params, sources={}, resume=resume,
        on_step=on_step, on_pretrain_step=on_pretrain_step,
    )  # fmt: skip
    return record, told


def test_confidence_is_the_largest_probability() -> None:
    np.testing.assert_allclose(confidence(LOGITS), [0.9, 0.8, 0.6, 0.55, 0.75], rtol=1e-6)
    draw = np.random.default_rng(0).normal(size=(50, 3), scale=4).astype(np.float32)
    expected = torch.softmax(torch.from_numpy(draw).double(), -1).amax(-1)
    np.testing.assert_allclose(confidence(draw), expected, rtol=1e-12)
    sure = confidence(np.array([[20, 0], [21, 0]], np.float32))  # both 1 in float32
    assert sure[0] < sure[1] < 1


@pytest.mark.parametrize(
    ("labels", "thresholds", "expected"),
    [
        (RIGHT, (0.7, 0.7), [0, 0, 1, 1, 0]),
        (WRONG, (0.7, 0.7), [2, 2, 3, 3, 2]),
        (RIGHT, (0.85, 0.58), [0, 1, 1, 1, 1]),
        (WRONG, (0.85, 0.58), [2, 2, 2, 3, 2]),
        (np.array([0, 1, 0, 1, -100]), (0.58, 0.85), [0, 3, 0, 3, -100]),
    ],
)
def test_the_four_labels_by_hand(
    labels: np.ndarray, thresholds: tuple[float, float], expected: list[int]
) -> None:
    assert ptp_labels(LOGITS, labels, thresholds, "ptp").tolist() == expected
    known = [label for label in expected if label >= 0]
    for kind, merged in (
        ("ptp1", [label // 2 for label in known]),  # correct, wrong
        ("ptp2", [label % 2 for label in known]),  # confident, not
    ):
        found = ptp_labels(LOGITS, labels, thresholds, kind)
        assert found[found >= 0].tolist() == merged
        assert (found == -100).tolist() == [label == -100 for label in expected]


def test_confident_is_strictly_above_the_threshold() -> None:
    logits = np.array([[0.0, 0.0, -np.inf]], np.float32)  # exactly 0.5
    assert ptp_labels(logits, np.array([0]), (0.5, 0.5), "ptp").tolist() == [1]
    assert ptp_labels(logits, np.array([0]), (0.4999, 0.5), "ptp").tolist() == [0]
    assert ptp_labels(logits, np.array([1]), (0.4, 0.5), "ptp").tolist() == [3]


def test_the_medians_of_correct_and_wrong_rows() -> None:
    labels = np.array([0, 0, 0, 1, 0])  # right at 0.9, 0.8, 0.6; wrong at 0.55, 0.75
    assert median_thresholds(LOGITS, labels) == pytest.approx((0.8, 0.65), rel=1e-6)
    unknown = np.array([-100, 0, 0, 1, 0])
    assert median_thresholds(LOGITS, unknown) == pytest.approx((0.7, 0.65), rel=1e-6)
    assert median_thresholds(LOGITS, RIGHT) == pytest.approx((0.75, 0.75), rel=1e-6)
    assert median_thresholds(LOGITS, WRONG) == pytest.approx((0.75, 0.75), rel=1e-6)


def test_thresholds_as_they_are_written() -> None:
    assert parse_thresholds("median") is None
    assert parse_thresholds("0.8") == (0.8, 0.8)
    assert parse_thresholds("0.8,0.6") == (0.8, 0.6)
    for wrong in ("", "mean", "1", "0.8,", "0.8,1.2", "0,0.5", "0.7,0.6,0.5", "nan"):
        with pytest.raises(ParamsError, match="expected `median`, one number between 0 and 1"):
            parse_thresholds(wrong)


def lesson_of(world: World, labels: list[int] | None = None, **changes: Any) -> Lesson:
    """The lesson of the tiny cache; with other gold labels, if given."""
    cache = TeacherCache.open(world.cache16)
    rows = load_rows(cache, "train", CPU)
    if labels is not None:
        rows = replace(rows, labels_N=torch.tensor(labels))
    splits = {"validation": load_rows(cache, "validation", CPU)}
    return make_lesson(cache, replace(PARAMS, **changes), rows, splits)


def test_a_lesson_labels_the_rows_of_the_cache(world: World) -> None:
    """Again with torch; a third of the gold labels are made wrong, and some are taken away."""
    logits_NK = torch.from_numpy(TeacherCache.open(world.cache16).logits("train"))
    answer_N = logits_NK.argmax(-1)
    gold_N = torch.where(torch.arange(150) % 3 == 0, 1 - answer_N, answer_N)
    gold_N[-7:] = -100
    sure_N = logits_NK.double().softmax(-1).amax(-1)
    lesson = lesson_of(world, gold_N.tolist(), ptp_thresholds="0.99,0.95")
    wrong_N, sure = answer_N != gold_N, torch.where(answer_N == gold_N, 0.99, 0.95) < sure_N
    expected_N = 2 * wrong_N.long() + (~sure).long()
    expected_N[-7:] = -100
    assert torch.equal(lesson.train.labels_N, expected_N)
    counts = [int((expected_N == label).sum()) for label in range(4)]
    assert sum(counts) == 143
    assert lesson.histogram == {
        "correct, confident": counts[0], "correct, unsure": counts[1],
        "wrong, confident": counts[2], "wrong, unsure": counts[3],
    }  # fmt: skip
    assert lesson.teacher_accuracy == pytest.approx(int((answer_N == gold_N).sum()) / 143)
    medians = lesson_of(world, gold_N.tolist()).thresholds
    known_N = gold_N >= 0
    assert medians == pytest.approx(
        (np.median(sure_N[~wrong_N & known_N]), np.median(sure_N[wrong_N & known_N])), rel=1e-9
    )


def test_nearly_empty_labels_are_warned_of(world: World) -> None:
    """A teacher of 100 % on its own rows makes no wrong ones; one of 67 % does."""
    answer = TeacherCache.open(world.cache16).logits("train").argmax(-1)
    sure = lesson_of(world, answer.tolist())
    assert sure.warning is not None
    assert (
        "150 training rows hardly any have the label `wrong, confident` 0, `wrong, unsure` 0"
        in (sure.warning)
    )
    assert "the teacher is right on 100.0% of the rows" in sure.warning
    third = np.where(np.arange(150) % 3 == 0, 1 - answer, answer)
    assert lesson_of(world, third.tolist()).warning is None
    assert lesson_of(world, answer.tolist(), pretrain="ptp2").warning is None


def test_what_has_no_lesson_is_refused(world: World) -> None:
    manifest = read_manifest(world.cache16)
    params = replace(PARAMS, init=str(world.encoder))
    with pytest.raises(ParamsError, match="--pretrain ptp: needs classes; this is a regression"):
        settle(replace(manifest, outputs=1), params, "c")
    train = replace(manifest.splits["train"], labelled_rows=0)
    unlabelled = replace(manifest, splits={**manifest.splits, "train": train})
    with pytest.raises(ParamsError, match="takes labels, and no training row of c has one"):
        settle(unlabelled, params, "c")
    with pytest.raises(ParamsError, match="--ptp-thresholds 2: expected `median`"):
        settle(manifest, replace(params, ptp_thresholds="2"), "c")
    assert settle(unlabelled, replace(params, pretrain="none"), "c")


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that nothing disturbed: an SPS student, pretrained."""
    out = tmp_path_factory.mktemp("students") / "s"
    record, told = fit(world, out, share="sps")
    assert told == [1, 10, 11, 20]  # ten steps an epoch: 150 rows in batches of 16
    return out, record


def test_the_record_tells_of_the_pretraining(whole: tuple[Path, dict[str, Any]]) -> None:
    out, record = whole
    found = record["pretrain"]
    assert found["kind"] == "ptp"
    assert sum(found["labels"].values()) == 150
    assert [each["epoch"] for each in found["history"]] == [1, 2]
    assert found["seconds"] > 0
    assert set(found["thresholds"]) == {"correct", "wrong"}
    assert [each["epoch"] for each in record["history"]] == [1, 2]
    assert record["share"] == "sps"
    assert "* Pretrained (`ptp`, 2 epochs)" in (out / "README.md").read_text()
    assert not list(out.glob(".state"))


@pytest.mark.parametrize(
    ("stops", "left"),
    [
        ({"stop_pretrain": 1}, [1, 10, 11, 20]),  # before any checkpoint
        ({"stop_pretrain": 11}, [11, 20]),
        ({"stop": 1}, []),  # the pretraining is done, the run has no checkpoint
        ({"stop": 11}, []),
    ],
)
def test_a_run_goes_on_in_the_stage_where_it_stopped(
    world: World, whole: tuple[Path, dict[str, Any]], tmp_path: Path,
    stops: dict[str, Any], left: list[int],
) -> None:  # fmt: skip
    with pytest.raises(StoppedError):
        fit(world, tmp_path / "s", share="sps", **stops)
    record, told = fit(world, tmp_path / "s", share="sps", resume=True)
    assert told == left
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole[0], tmp_path / "s")]
    assert weights[0] == weights[1]
    for part in (record, record["pretrain"]):
        assert len(part["history"]) == 2
    assert record["pretrain"]["labels"] == whole[1]["pretrain"]["labels"]


@pytest.mark.parametrize("init_layers", ["first", "teacher"])
def test_distillation_starts_from_the_pretrained_encoder_with_a_new_head(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init_layers: str
) -> None:
    start: dict[str, torch.Tensor] = {}

    def spy(model: Any, *_: Any, **__: Any) -> Any:
        start.update({name: weight.clone() for name, weight in model.state_dict().items()})
        raise StoppedError

    monkeypatch.setattr("pipeline.training.session.train", spy)
    init = world.teacher if init_layers == "teacher" else world.encoder
    with pytest.raises(StoppedError):
        fit(world, tmp_path / "s", init=str(init), init_layers=init_layers, pretrain_epochs=1)
    learned = load_file(tmp_path / ".s.partial" / ".state" / "before" / "best.safetensors")
    assert learned["classifier.weight"].shape == (4, 16)
    body = [name for name in start if name.startswith("bert.")]
    assert len(body) == len(start) - 2
    assert all(torch.equal(start[name], learned[name]) for name in body)
    task = Task.from_dict(read_manifest(world.cache16).task)
    fresh = build_classifier(str(init), task, layers=2, seed=0, dropout=None).state_dict()
    pooler = "bert.pooler.dense.weight"
    assert not torch.equal(start[pooler], fresh[pooler])  # it has learned something
    assert start["classifier.weight"].shape == (2, 16)
    if init_layers == "first":
        assert torch.equal(start["classifier.weight"], fresh["classifier.weight"])
    else:
        tuned = load_file(world.teacher / "model.safetensors")["classifier.weight"]
        assert not torch.equal(start["classifier.weight"], tuned)


def test_the_lesson_is_learned(world: World, tmp_path: Path) -> None:
    """Were every gold label 0, the teacher would be wrong where it says 1: that can be learned."""
    cache = TeacherCache.open(world.cache16)
    rows = {name: load_rows(cache, name, CPU) for name in ("train", "validation")}
    zero = {name: replace(of, labels_N=torch.zeros_like(of.labels_N)) for name, of in rows.items()}
    params = replace(PARAMS, pretrain="ptp1", pretrain_epochs=8, learning_rate=5e-3, dropout=0.0)
    lesson = make_lesson(cache, params, zero["train"], {"validation": zero["validation"]})
    task = task_of("ptp1", Task.from_dict(cache.manifest.task))
    model = build_classifier(str(world.encoder), task, layers=4, seed=0, dropout=0.0)
    assert model.config.id2label == {0: "correct", 1: "wrong"}
    record = pretrain(model, lesson, task, params, tmp_path, device=CPU, on_step=lambda _: None)
    losses = [each["losses"]["ce"] for each in record["history"]]
    assert losses[-1] < 0.5 * losses[0]
    wrong_N = cache.logits("validation").argmax(-1) == 1
    answer_N = predict(model, rows["validation"], 128).argmax(-1)
    accuracy = float((answer_N == wrong_N).mean())
    assert accuracy > 0.8
    assert record["scores"]["validation"]["accuracy"] == pytest.approx(accuracy)
    assert accuracy == max(each["scores"]["validation"]["accuracy"] for each in record["history"])


def test_the_command_prints_the_histogram_and_the_warning(world: World, tmp_path: Path) -> None:
    arguments = [
        "fit", "--cache", str(world.cache16), "--init", str(world.encoder), "--epochs", "1",
        "--student-layers", "2", "--pretrain", "ptp", "--pretrain-epochs", "1", "--share", "sps",
        "--ptp-thresholds", "0.9,0.6",
    ]  # fmt: skip
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 0, found.output
    lesson = lesson_of(world, ptp_thresholds="0.9,0.6")
    for name, rows in lesson.histogram.items():
        assert f"{name:<18} {rows:>9,} rows {rows / 150:>7.1%}" in found.stderr
    assert lesson.warning is not None
    assert f"warning: {lesson.warning}" in found.stderr
    assert "confident is above 0.9 (correct) and 0.6 (wrong)" in found.stderr
    assert "rte-skip-2-sps-ptp-s0: 2 of 4 layers" in found.stdout
    assert "sps: 4 block passes" in found.stdout
    assert "ptp before that:" in found.stdout


def test_nothing_is_pretrained_unless_asked_for() -> None:
    assert (StudentParams().pretrain, StudentParams().pretrain_epochs) == ("none", 3)
