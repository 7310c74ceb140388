"""pytest tests/pipeline/test_two_validation_splits.py - MNLI, from its own files to a student."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from pipeline.caching.build import build_cache
from pipeline.data import load_prepared
from pipeline.data.prepare import prepare
from pipeline.params import DataParams
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import fit_student
from pipeline.tasks import BUILT_IN
from pipeline.teacher.fit import fit_teacher
from tests.support.tiny import CACHE, STUDENT, TEACHER, save_encoder

WORD_OF = {"entailment": "sun", "neutral": "w3", "contradiction": "rain"}


def write_mnli(folder: Path) -> None:
    draw = random.Random(0)
    folder.mkdir()
    for name, rows in (("train", 120), ("dev_matched", 31), ("dev_mismatched", 29)):
        lines = ["index\tpairID\tsentence1\tsentence2\tgold_label"]
        for index in range(rows):
            label = draw.choice(list(WORD_OF))
            lines.append(f"{index}\tp{index}\tw5 {WORD_OF[label]}\tw{draw.randint(6, 50)}\t{label}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def test_both_are_cached_and_scored_and_the_first_chooses(tmp_path: Path) -> None:
    write_mnli(tmp_path / "MNLI")
    encoder = str(save_encoder(tmp_path / "enc"))
    raw = tmp_path / "data" / "raw" / "mnli"
    prepare(BUILT_IN["mnli"], DataParams(source=str(tmp_path / "MNLI")), raw)
    prepared = load_prepared(raw, "mnli")
    teacher = fit_teacher(
        prepared=prepared, out=tmp_path / "t", sources={}, params=replace(TEACHER, init=encoder)
    )
    assert list(teacher["scores"]) == ["validation_matched", "validation_mismatched"]
    build_cache(
        prepared=prepared, teacher_name=str(tmp_path / "t"), out=tmp_path / "c.zarr", params=CACHE
    )
    cache = TeacherCache.open(tmp_path / "c.zarr")
    assert {name: split.rows for name, split in cache.manifest.splits.items()} == {
        "validation_matched": 31, "validation_mismatched": 29, "train": 120,
    }  # fmt: skip
    assert cache.manifest.outputs == 3
    _, record = fit_student(
        cache_path=tmp_path / "c.zarr", out=tmp_path / "s", sources={},
        params=replace(STUDENT, init=encoder, epochs=3),
    )  # fmt: skip
    matched = [each["scores"]["validation_matched"]["accuracy"] for each in record["history"]]
    assert record["best_epoch"] == matched.index(max(matched)) + 1
    assert set(record["scores"]) == {"validation_matched", "validation_mismatched"}
