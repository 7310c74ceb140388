"""Run with: pytest tests/pipeline/report/test_report_similarity.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.batches import Rows, batches_of, spread_rows
from pipeline.errors import CacheMismatchError
from pipeline.models.load import load_classifier
from pipeline.report.load import load_students
from pipeline.report.similarity import layer_similarity, mean_cosine
from pipeline.report.speed import Subject, measure
from pipeline.report.tokens import open_cache
from tests.pipeline.report.shelf import ROWS, Shelf, examples, tiny_bert

CPU = torch.device("cpu")


def test_cosine_by_hand() -> None:
    student = torch.tensor([[[3.0, 4.0]], [[2.0, 0.0]]])  # 2 rows, 1 layer
    teacher = torch.tensor([[[4.0, 3.0], [3.0, 4.0]], [[0.0, 7.0], [-1.0, 0.0]]])
    # row 1: 24/25 and 1; row 2: 0 and -1
    torch.testing.assert_close(mean_cosine(student, teacher), torch.tensor([[0.48, 0.0]]))


def test_distance_of_normalised_vectors_is_two_minus_two_cosines() -> None:
    rng = np.random.default_rng(3)
    student, teacher = rng.normal(size=(11, 3, 8)), rng.normal(size=(11, 4, 8))
    cosine = mean_cosine(torch.from_numpy(student), torch.from_numpy(teacher)).numpy()
    for m in range(3):
        for layer in range(4):
            one = student[:, m] / np.linalg.norm(student[:, m], axis=1, keepdims=True)
            other = teacher[:, layer] / np.linalg.norm(teacher[:, layer], axis=1, keepdims=True)
            distance = ((one - other) ** 2).sum(axis=1).mean()
            assert distance == pytest.approx(2 - 2 * cosine[m, layer])


def test_a_student_against_its_cache_agrees_with_row_by_row(shelf: Shelf) -> None:
    folder = shelf.add()
    (run,), _ = load_students(shelf.sources.students)
    view = open_cache(shelf.root / "rte.zarr", "validation")
    found = layer_similarity(run, load_classifier(str(folder)), view, 1000, CPU)
    assert found.rows == ROWS
    assert found.teacher_layers == (1, 2, 3, 4)
    student, teacher = tiny_bert(2, seed=2), tiny_bert(4, seed=1)
    expected = np.zeros((2, 4))
    with torch.inference_mode():
        for ids in examples()["input_ids"].to_pylist():
            inputs = {"input_ids": torch.tensor([ids]), "output_hidden_states": True}
            s, t = (model(**inputs).hidden_states for model in (student, teacher))
            for m in range(2):
                for layer in range(4):
                    a, b = s[m + 1][0, 0].numpy(), t[layer + 1][0, 0].numpy()
                    expected[m, layer] += a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    np.testing.assert_allclose(found.cosine_ML, expected / ROWS, atol=1e-5)


def test_another_cache_is_refused(shelf: Shelf) -> None:
    folder = shelf.add(cache={"name": "rte.zarr", "cache_id": "0" * 64, "content_digest": "c"})
    (run,), _ = load_students(shelf.sources.students)
    view = open_cache(shelf.root / "rte.zarr", "validation")
    with pytest.raises(CacheMismatchError, match="it learned from cache 00000000, the one at hand"):
        layer_similarity(run, load_classifier(str(folder)), view, 8, CPU)


def test_another_width_is_refused(shelf: Shelf) -> None:
    shelf.add()
    (run,), _ = load_students(shelf.sources.students)
    view = open_cache(shelf.root / "rte.zarr", "validation")
    with pytest.raises(CacheMismatchError, match="its hidden size is 32, the teacher's 16"):
        layer_similarity(run, tiny_bert(2, seed=0, hidden=32), view, 8, CPU)


def test_a_missing_split_is_named(shelf: Shelf) -> None:
    with pytest.raises(CacheMismatchError, match="no split `validation_matched`"):
        open_cache(shelf.root / "rte.zarr", "validation_matched")


@pytest.mark.parametrize(("total", "wanted"), [(37, 8), (5, 8), (8, 8), (9815, 128), (1, 1)])
def test_spread_rows_are_different_and_inside(total: int, wanted: int) -> None:
    rows = spread_rows(total, wanted).tolist()
    assert len(set(rows)) == min(total, wanted)
    assert rows == sorted(rows)
    assert 0 <= rows[0] <= rows[-1] < total


def test_batches_keep_the_order_of_their_rows() -> None:
    rows = Rows.from_examples(examples(), pad_id=0)
    chosen = torch.tensor([5, 1, 30])
    batches = batches_of(rows, chosen, 2)
    assert [len(batch["input_ids"]) for batch in batches] == [2, 1]
    lengths = [int(n) for batch in batches for n in batch["attention_mask"].sum(1)]
    assert lengths == rows.lengths_N[chosen].tolist()


def test_speed_is_measured_for_every_model() -> None:
    rows = Rows.from_examples(examples(), pad_id=0)
    rounds: list[tuple[int, int]] = []

    def tick(what: str, done: int, total: int, **figures: float) -> None:
        assert what == "inference speed"
        rounds.append((done, total))

    models = {"teacher": tiny_bert(4, seed=1), "student": tiny_bert(1, seed=2)}
    subjects = {name: Subject(model=model, rows=rows) for name, model in models.items()}
    found = measure(subjects, 8, CPU, tick)
    assert set(found) == {"teacher", "student"}
    assert all(s.rows_per_second > 0 and s.milliseconds_per_row > 0 for s in found.values())
    done, total = rounds[-1]
    assert done == total >= 3
