"""pytest tests/pipeline/predict/test_classify.py - the numbers are those of plain transformers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.predict import classify
from pipeline.predict.classify import Classifier, load_student, windows
from pipeline.predict.rows import Row
from pipeline.predict.student import describe_student
from tests.support.students import save_student
from tests.support.tiny import WORDS

LENGTH = 24


def texts(count: int, columns: int) -> list[Row]:
    """Of all lengths, some longer than the student reads."""
    draw = random.Random(1)
    return [
        Row(
            n,
            tuple(" ".join(draw.choices(WORDS, k=draw.randint(1, 20))) for _ in range(columns)),
            (),
        )
        for n in range(count)
    ]


def load(folder: Path, columns: tuple[str, ...], batch_size: int = 8) -> Classifier:
    found = describe_student(str(folder), {}, text_columns=columns, max_length=LENGTH)
    cpu = torch.device("cpu")
    return load_student(found, device=cpu, precision="float32", batch_size=batch_size)


@pytest.mark.parametrize("columns", [("a",), ("a", "b")])
def test_probabilities_are_those_of_a_transformers_pipeline(
    columns: tuple[str, ...], tmp_path: Path
) -> None:
    """Row by row, without padding."""
    from transformers import pipeline

    labels = ("x", "y", "z")
    folder = save_student(tmp_path / "s", labels)
    rows = texts(61, len(columns))
    found = load(folder, columns)(rows)
    plain = pipeline("text-classification", model=str(folder), device="cpu")
    for row, probabilities in zip(rows, found, strict=True):
        given = dict(zip(("text", "text_pair"), row.texts, strict=False))
        answer = plain(given, top_k=None, truncation=True, max_length=LENGTH)
        expected = {each["label"]: each["score"] for each in answer}
        assert dict(zip(labels, probabilities, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert len(set(found.argmax(-1))) == 3  # else the order of rows could not be told


def test_scores_of_a_regression_are_the_models_own_numbers(tmp_path: Path) -> None:
    folder = save_student(tmp_path / "s", ())
    rows = texts(30, 2)
    student = load(folder, ("a", "b"))
    found = student(rows)
    for row, score in zip(rows, found, strict=True):
        inputs = student.tokenizer(
            *row.texts, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        with torch.no_grad():
            expected = student.model(**inputs).logits[0]
        np.testing.assert_allclose(score, expected.numpy(), atol=1e-5)
    assert found.shape == (30, 1)
    assert found.std() > 0.1


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    student = load(save_student(tmp_path / "s"), ("a",))
    student.model.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        student(texts(3, 1))


def test_windows_are_bounded_in_rows_and_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "WINDOW_ROWS", 4)
    monkeypatch.setattr(classify, "WINDOW_CHARACTERS", 100)
    rows = [Row(n, ("x",), ("x" * (60 if n < 3 else 1), 5)) for n in range(10)]
    found = list(windows(rows))
    assert [len(window) for window in found] == [2, 4, 4]
    assert [row for window in found for row in window] == rows
    assert list(windows([])) == []
