"""pytest tests/pipeline/teacher/test_folds.py - logits of rows never seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.batches import Rows
from pipeline.caching.build import build_cache
from pipeline.caching.merge import merge_parts
from pipeline.data import Prepared
from pipeline.data.prepared import load_prepared
from pipeline.errors import CacheMismatchError, ModelError, OutputExistsError, ParamsError
from pipeline.models.load import load_classifier
from pipeline.store.check import check_cache
from pipeline.store.plan import Share
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import fit_student, load_rows
from pipeline.student.ptp import make_lesson
from pipeline.teacher.fit import fit_teacher
from pipeline.teacher.folds import (
    OUT_OF_FOLD_FILE,
    OutOfFold,
    assign_folds,
    fit_folds,
    read_out_of_fold,
    require_folds,
    without_labels,
    write_out_of_fold,
)
from pipeline.training.evaluate import predict
from tests.support.synthetic import files_of
from tests.support.tiny import CACHE, STUDENT, TEACHER, World

FOLDS = 3
PARAMS = replace(TEACHER, folds=FOLDS)
LENGTHS = (3, 1, 4, 1, 5, 2, 6, 2)
DIGESTS = [bytes([each]) * 16 for each in (0, 1, 2, 1, 3, 4, 5, 4)]  # two inputs occur twice


def rows_of(labels: Tensor) -> Rows:
    """Rows of other lengths, whose tokens are their row's number times 10 and up."""
    ids = [10 * row + place for row, length in enumerate(LENGTHS) for place in range(length)]
    starts = torch.tensor([0, *LENGTHS]).cumsum(0)
    return Rows(ids_T=torch.tensor(ids), types_T=None, starts_N1=starts, labels_N=labels, pad_id=0)


@pytest.fixture(scope="module")
def folded(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A teacher fitted with folds, and its record."""
    out = tmp_path_factory.mktemp("folds") / "teacher"
    params = replace(PARAMS, init=str(world.encoder))
    return out, fit_teacher(prepared=world.prepared, out=out, params=params, sources={})


@pytest.fixture(scope="module")
def cache(
    world: World, folded: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("folded") / "rte.zarr"
    build_cache(prepared=world.prepared, teacher_name=str(folded[0]), out=out, params=CACHE)
    return out


# --- which row is in which fold ------------------------------------------------------------------


def test_equal_inputs_share_a_fold_and_classes_are_spread() -> None:
    draw = np.random.default_rng(0)
    labels = np.repeat([0, 1, -100], [60, 30, 12]).astype(np.int64)
    digests = [bytes([row // 2]) * 16 for row in range(len(labels))]  # each input twice
    order = draw.permutation(len(labels))
    labels, digests = labels[order], [digests[row] for row in order]
    folds = assign_folds(labels, digests, 3, seed=0)
    assert set(folds) == {1, 2, 3}
    assert all(
        len({f for f, d in zip(folds, digests, strict=True) if d == e}) == 1 for e in digests
    )
    for label, count in ((0, 20), (1, 10), (-100, 4)):
        found = [int((labels[folds == fold] == label).sum()) for fold in (1, 2, 3)]
        assert found == [count] * 3
    np.testing.assert_array_equal(folds, assign_folds(labels, digests, 3, seed=0))
    assert (folds != assign_folds(labels, digests, 3, seed=1)).any()


def test_numbers_are_spread_too() -> None:
    labels = np.linspace(0, 5, 30, dtype=np.float32)
    folds = assign_folds(labels, [bytes([row]) * 16 for row in range(30)], 5, seed=0)
    assert np.bincount(folds).tolist() == [0, 6, 6, 6, 6, 6]


@pytest.mark.parametrize("folds", [1, 5, 100])
def test_a_number_of_folds_that_cannot_be(folds: int) -> None:
    rows = rows_of(torch.tensor([0, 1, 0, 1, 0, 1, 0, -100]))
    with pytest.raises(ParamsError, match=rf"--folds {folds}: .*\(7\)"):
        require_folds(rows, folds)
    require_folds(rows, 3)


def test_classes_that_are_smaller_than_the_number_of_folds_are_refused() -> None:
    rows = rows_of(torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, -100, -100, -100, -100]))
    with pytest.raises(ParamsError, match=r"--folds 4: no class has more than 3 .* at most 3"):
        require_folds(rows, 4)
    require_folds(rows, 3)
    assign_folds(rows.labels_N.numpy(), [bytes([row]) * 16 for row in range(13)], 3, seed=0)
    numbers = rows_of(torch.linspace(0, 5, 20))
    require_folds(numbers, 10)


def test_some_rows() -> None:
    rows = rows_of(torch.arange(8))
    found = rows.take(torch.tensor([6, 0, 3]))
    assert found.ids_T.tolist() == [60, 61, 62, 63, 64, 65, 0, 1, 2, 30]
    assert found.starts_N1.tolist() == [0, 6, 9, 10]
    assert found.labels_N.tolist() == [6, 0, 3]


@pytest.mark.parametrize("labels", [torch.arange(8), torch.arange(8.0)])
def test_labels_are_hidden_in_a_copy(labels: Tensor) -> None:
    rows = rows_of(labels)
    hidden = without_labels(rows, np.array([2, 5]))
    assert hidden.labelled_N.tolist() == [True, True, False, True, True, False, True, True]
    assert rows.labelled_N.all()


class Constant(nn.Module):
    """Says the number of its fold, and the sum of the tokens."""

    def __init__(self, fold: int) -> None:
        super().__init__()
        self.fold, self.config = fold, SimpleNamespace(num_labels=2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        tokens = (input_ids * attention_mask).sum(1).float()
        return SimpleNamespace(logits=torch.stack([tokens, tokens * 0 + self.fold], 1))


def test_each_row_is_scored_by_the_fold_that_it_is_held_out_of(tmp_path: Path) -> None:
    rows = rows_of(torch.tensor([0, 1, 0, 1, 0, 1, 0, 1]))
    seen: dict[int, list[bool]] = {}

    def fit_one(fold: int, of: Rows, state: Path) -> Any:
        state.mkdir(parents=True)
        seen[fold] = of.labelled_N.tolist()
        return Constant(fold)

    found = fit_folds(rows, DIGESTS, 3, 0, tmp_path, fit_one)
    assert sorted(seen) == [1, 2, 3]
    values = found.of_rows(DIGESTS, "t", (0, 1))
    for row, (tokens, fold) in enumerate(values):
        # of an input that occurs twice the logits are those of either: they read the same tokens
        # here too but for this test's numbers, so the fold alone is compared
        assert not seen[int(fold)][row]
        if DIGESTS.count(DIGESTS[row]) == 1:
            assert tokens == sum(10 * row + place for place in range(LENGTHS[row]))
    hidden = np.array([seen[fold] for fold in (1, 2, 3)])
    assert ((~hidden).sum(0) == 1).all()

    def never(*_: object) -> Any:
        raise AssertionError

    again = fit_folds(rows, DIGESTS, 3, 0, tmp_path, never)
    assert again.digest == found.digest
    np.testing.assert_array_equal(found.of_rows(DIGESTS, "t", (1, 0)), values[:, ::-1])


# --- the teacher's folder ------------------------------------------------------------------------


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    found = OutOfFold({bytes([row]) * 16: logits[row] for row in range(5)}, 4)
    write_out_of_fold(tmp_path, found)
    again = read_out_of_fold(str(tmp_path), 3)
    assert again
    assert (again.folds, again.digest) == (4, found.digest)
    np.testing.assert_array_equal(again.of_rows([bytes([3]) * 16], "t", (0, 1, 2)), logits[[3]])
    other = OutOfFold({**found.by_digest, bytes([0]) * 16: logits[1]}, 4)
    assert other.digest != found.digest
    assert read_out_of_fold("bert-base-uncased", 3) is None
    with pytest.raises(ModelError, match="not the out-of-fold logits of 2 outputs"):
        read_out_of_fold(str(tmp_path), 2)
    (tmp_path / OUT_OF_FOLD_FILE).write_bytes(b"PAR1 and nothing")
    with pytest.raises(ModelError, match="fit the teacher again with --folds"):
        read_out_of_fold(str(tmp_path), 3)


class WithoutLabelsOf(Prepared):
    """Prepared data with the labels of some training rows hidden."""

    hidden: frozenset[int]

    def table(self, split: str) -> Any:
        table = super().table(split)
        if split != "train":
            return table
        mask = np.isin(np.arange(table.num_rows), sorted(self.hidden))
        labels = pa.array(table["label"].to_pylist(), table.schema.field("label").type, mask=mask)
        return table.set_column(table.schema.get_field_index("label"), "label", labels)


def test_a_folds_logits_are_those_of_a_teacher_fitted_without_it(
    world: World, folded: tuple[Path, dict[str, Any]], cache: Path, tmp_path: Path
) -> None:
    """A second way: the ordinary teacher, of data whose labels are missing."""
    opened = TeacherCache.open(cache)
    rows = load_rows(opened, "train", torch.device("cpu"))
    digests = opened.examples("train")["row_digest"].to_pylist()
    fold_N = assign_folds(rows.labels_N.numpy(), digests, FOLDS, TEACHER.seed)
    held_out = np.flatnonzero(fold_N == 2)
    data = load_prepared(world.raw, "rte")
    hidden = WithoutLabelsOf(data.folder, data.task, data.digest, data.record, data.splits)
    object.__setattr__(hidden, "hidden", frozenset(held_out.tolist()))
    params = replace(PARAMS, init=str(world.encoder), folds=0)
    fit_teacher(prepared=hidden, out=tmp_path / "t", params=params, sources={})
    expected = predict(load_classifier(str(tmp_path / "t")), rows, 16)[held_out]
    found = opened.out_of_fold("train")[held_out]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    own = opened.logits("train")[held_out]
    assert np.abs(own - expected).max() > 0.1


def test_folds_change_nothing_of_the_teacher_itself(
    world: World, folded: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    params = replace(PARAMS, init=str(world.encoder), folds=0)
    record = fit_teacher(prepared=world.prepared, out=tmp_path / "t", params=params, sources={})
    assert "out_of_fold" not in record
    assert not (tmp_path / "t" / OUT_OF_FOLD_FILE).exists()
    plain, with_folds = (
        load_file(each / "model.safetensors") for each in (tmp_path / "t", folded[0])
    )
    for name, weight in plain.items():
        torch.testing.assert_close(with_folds[name], weight, rtol=0, atol=0)
    assert folded[1]["out_of_fold"]["folds"] == FOLDS


def test_an_interrupted_fit_does_not_fit_a_finished_fold_again(
    world: World, folded: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    params = replace(PARAMS, init=str(world.encoder))
    told: list[int] = []

    def stop(fold: int, _: Any) -> None:
        told.append(fold)
        if fold == 3:
            raise KeyboardInterrupt

    given: dict[str, Any] = {"prepared": world.prepared, "out": tmp_path / "t", "params": params}
    with pytest.raises(KeyboardInterrupt):
        fit_teacher(**given, sources={}, on_fold_step=stop)
    assert not (tmp_path / "t").exists()
    told.clear()
    record = fit_teacher(
        **given, sources={}, resume=True, on_fold_step=lambda fold, _: told.append(fold)
    )
    assert set(told) == {3}
    assert record["out_of_fold"] == folded[1]["out_of_fold"]


# --- the cache -----------------------------------------------------------------------------------


def test_the_cache_holds_them_says_so_and_is_checked(cache: Path) -> None:
    opened = TeacherCache.open(cache)
    assert opened.has_out_of_fold("train")
    assert not opened.has_out_of_fold("validation")
    with pytest.raises(CacheMismatchError, match="no out-of-fold logits.*--folds"):
        opened.out_of_fold("validation")
    labels = opened.examples("train")["label"].to_numpy()
    agreement = opened.manifest.teacher["agreement"]["train, out of fold"]
    assert agreement == (opened.out_of_fold("train").argmax(1) == labels).mean()
    assert check_cache(cache) == []
    shard = cache / "train" / "out_of_fold" / "c" / "1" / "0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    try:
        shard.write_bytes(content)
        found = {finding.file for finding in check_cache(cache)}
        assert "train/out_of_fold/c/1/0" in found
        with pytest.raises(Exception, match="out_of_fold"):
            opened.out_of_fold("train")
    finally:
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)


def test_parts_make_the_bytes_of_one_build(
    world: World, folded: tuple[Path, dict[str, Any]], cache: Path, tmp_path: Path
) -> None:
    parts = [tmp_path / f"part-{index}" for index in range(2)]
    for index, part in enumerate(parts):
        build_cache(
            prepared=world.prepared, teacher_name=str(folded[0]), out=part, params=CACHE,
            share=Share(index, 2),
        )  # fmt: skip
    merge_parts(tmp_path / "rte.zarr", parts)
    assert files_of(tmp_path / "rte.zarr") == files_of(cache)


def test_other_folds_are_another_cache_and_other_rows_are_refused(
    world: World, folded: tuple[Path, dict[str, Any]], cache: Path, tmp_path: Path
) -> None:
    again: dict[str, Any] = {"prepared": world.prepared, "teacher_name": str(folded[0])}
    assert build_cache(**again, out=cache, params=CACHE).existed
    with pytest.raises(CacheMismatchError, match=r"lack \d+ of 150 .*--max-length"):
        build_cache(**again, out=tmp_path / "short.zarr", params=replace(CACHE, max_length=9))
    build_cache(
        prepared=world.prepared, teacher_name=str(world.teacher), out=tmp_path / "plain.zarr",
        params=CACHE,
    )  # fmt: skip
    plain = TeacherCache.open(tmp_path / "plain.zarr").manifest
    assert plain.cache_id != TeacherCache.open(cache).manifest.cache_id


def test_out_of_fold_logits_are_named_where_they_are_all_that_differs(
    world: World,
    folded: tuple[Path, dict[str, Any]],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same weights with folds, without, and with other folds, by a path of the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(folded[0], tmp_path / "teacher")

    def build(out: Path) -> None:
        build_cache(
            prepared=world.prepared, teacher_name="~/teacher", out=out, params=CACHE
        )  # fmt: skip

    build(cache)  # it is there already: they were found below ~
    file = tmp_path / "teacher" / OUT_OF_FOLD_FILE
    found = read_out_of_fold(str(folded[0]), 2)
    assert found
    other = {digest: -logits for digest, logits in found.by_digest.items()}
    write_out_of_fold(tmp_path / "teacher", OutOfFold(other, FOLDS))
    with pytest.raises(OutputExistsError, match="cache with other out-of-fold logits than this"):
        build(cache)
    file.unlink()
    with pytest.raises(OutputExistsError, match="with out-of-fold logits, this teacher has none"):
        build(cache)
    build(tmp_path / "plain.zarr")
    write_out_of_fold(tmp_path / "teacher", found)
    with pytest.raises(OutputExistsError, match="without out-of-fold logits, this teacher has"):
        build(tmp_path / "plain.zarr")


def test_the_lesson_of_ptp_is_made_of_them(world: World, cache: Path, tmp_path: Path) -> None:
    opened = TeacherCache.open(cache)
    rows = load_rows(opened, "train", torch.device("cpu"))
    params = replace(STUDENT, pretrain="ptp1", init=str(world.encoder))
    lesson = make_lesson(opened, params, rows, {})
    wrong = opened.out_of_fold("train").argmax(1) != rows.labels_N.numpy()
    assert lesson.train.labels_N.tolist() == wrong.astype(int).tolist()
    assert lesson.out_of_fold
    assert wrong.any()
    _, record = fit_student(cache_path=cache, out=tmp_path / "s", params=params, sources={})
    assert record["pretrain"]["out_of_fold"]
    assert record["pretrain"]["labels"] == {
        "correct": int((~wrong).sum()),
        "wrong": int(wrong.sum()),
    }


# --- the commands --------------------------------------------------------------------------------


def test_the_commands_say_what_they_do(world: World, tmp_path: Path) -> None:
    from stages.cache import cli as cache_cli
    from stages.student import cli as student_cli
    from stages.teacher import cli as teacher_cli

    def run(cli: Any, *words: object) -> Result:
        found = CliRunner().invoke(cli, [str(word) for word in words])
        assert found.exit_code == 0, found.output
        return found

    teacher, cache = tmp_path / "t", tmp_path / "rte.zarr"
    fitted = run(
        teacher_cli, "fit", "--task", "rte", "--init", world.encoder, "--data", world.raw,
        "--out", teacher, "--folds", 2, "--epochs", 8, "--learning-rate", 5e-3,
        "--dropout", 0,
        "--max-length", 24, "--batch-size", 16,
    )  # fmt: skip
    assert "training rows out of 2 folds: accuracy 0." in fitted.stdout
    build = ("build", "--task", "rte", "--teacher", teacher, "--data", world.raw, "--out", cache)
    run(cache_cli, *build)
    assert "  train, out of fold" in run(cache_cli, "info", cache).stdout
    assert "sound" in run(cache_cli, "verify", cache).stdout
    student = run(
        student_cli, "fit", "--cache", cache, "--init", world.encoder, "--student-layers", 2,
        "--pretrain", "ptp", "--epochs", 1, "--pretrain-epochs", 1, "--out", tmp_path / "s",
    )  # fmt: skip
    assert "the folds' teachers are right on" in student.stderr
    record = json.loads((teacher / "teacher.json").read_text())
    assert record["out_of_fold"]["folds"] == 2
