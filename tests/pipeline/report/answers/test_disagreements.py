"""Run with: pytest tests/pipeline/report/answers/test_disagreements.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.report.answers.disagreements import worst
from pipeline.report.answers.texts import LONGEST, segments
from pipeline.report.answers.types import Answers, GroupAnswers
from pipeline.report.load import parse_student
from pipeline.report.tables import group_runs
from tests.pipeline.report.shelf import Shelf
from tests.support.tiny import tiny_tokenizer


def answered(prototype: Shelf, seeds: list[list[list[float]]]) -> tuple[Answers, GroupAnswers]:
    """Five rows in places 10..14; the teacher is right in all but the last."""
    runs = [parse_student(prototype.record(seed=s), Path("run")) for s in range(len(seeds))]
    (group,) = group_runs(runs)
    of = GroupAnswers(group=group, logits_SNK=np.log(np.array(seeds)))
    answers = Answers(
        label_names=("yes", "no"),
        places_N=np.arange(10, 15),
        labels_N=np.array([0, 0, 1, 1, 0]),
        lengths_N=np.arange(5),
        teacher_NK=np.log([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]]),
        groups=(of,),
    )
    return answers, of


def test_the_surest_mistakes_come_first(prototype: Shelf) -> None:
    one = [[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.7, 0.3], [0.01, 0.99]]
    answers, of = answered(prototype, [one])
    found = worst(answers, of, 5)
    # place 12 is right, in 14 the teacher is wrong too
    assert [each.place for each in found] == [11, 13, 10]
    assert [each.confidence for each in found] == pytest.approx([0.9, 0.7, 0.6])
    assert [each.teacher_confidence for each in found] == pytest.approx([0.8, 0.7, 0.9])
    assert [(each.label, each.said) for each in found] == [(0, 1), (1, 0), (0, 1)]
    assert [each.place for each in worst(answers, of, 2)] == [11, 13]


def test_seeds_are_judged_by_their_mean(prototype: Shelf) -> None:
    one = [[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.1, 0.9], [0.9, 0.1]]
    two = [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.2, 0.8], [0.9, 0.1]]
    answers, of = answered(prototype, [one, two])
    (found,) = worst(answers, of, 5)  # place 10: mean 0.65 of the label
    assert (found.place, found.wrong_seeds, found.seeds) == (11, 2, 2)
    assert found.confidence == pytest.approx(0.8)


def test_a_student_that_is_always_right_has_no_mistakes(prototype: Shelf) -> None:
    right = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.9, 0.1]]
    assert worst(*answered(prototype, [right]), 5) == []


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_row_is_its_texts_again(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    pair = tokenizer("sun w1 strange", "w2  rain")["input_ids"]
    unknown = tokenizer.unk_token
    assert segments(tokenizer, pair) == (f"sun w1 {unknown}", "w2 rain")
    assert segments(tokenizer, tokenizer("sun")["input_ids"]) == ("sun",)
    assert segments(tokenizer, [tokenizer.cls_token_id]) == ()


def test_a_long_text_is_cut() -> None:
    (text,) = segments(tiny_tokenizer("bert"), tiny_tokenizer("bert")("sun " * 300)["input_ids"])
    assert len(text) == LONGEST
    assert text == ("sun " * 300)[: LONGEST - 1] + "…"
