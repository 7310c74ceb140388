"""pytest tests/pipeline/test_layers.py"""

from __future__ import annotations

from fractions import Fraction

import pytest

from pipeline.errors import ParamsError
from pipeline.layers import layer_map

# the sets of the paper, its code and Pea-KD's code
PUBLISHED = [
    ("skip", 12, 6, (2, 4, 6, 8, 10)),
    ("skip", 12, 3, (4, 8)),
    ("skip", 12, 2, (6,)),
    ("skip", 12, 1, ()),
    ("skip", 24, 6, (4, 8, 12, 16, 20)),
    ("skip", 24, 3, (8, 16)),
    ("skip", 24, 2, (12,)),
    ("last", 12, 6, (7, 8, 9, 10, 11)),
    ("last", 12, 3, (10, 11)),
    ("last", 12, 2, (11,)),
    ("last", 12, 1, ()),
    ("last", 24, 6, (19, 20, 21, 22, 23)),
    ("last", 24, 3, (22, 23)),
    ("last", 24, 2, (23,)),
]


@pytest.mark.parametrize(("strategy", "teacher", "student", "layers"), PUBLISHED)
def test_maps_are_the_published_ones(
    strategy: str, teacher: int, student: int, layers: tuple[int, ...]
) -> None:
    assert layer_map(strategy, teacher, student) == layers


@pytest.mark.parametrize("student", range(1, 25))
def test_skip_rounds_halves_up_and_never_touches_the_last_layer(student: int) -> None:
    for teacher in range(student, 25):
        layers = layer_map("skip", teacher, student)
        exact = [Fraction(j * teacher, student) for j in range(1, student)]
        assert list(layers) == [int(value + Fraction(1, 2)) for value in exact]
        assert all(1 <= layer < teacher for layer in layers)
        assert list(layers) == sorted(set(layers))


def test_labels_and_logits_alone_match_nothing() -> None:
    assert layer_map("finetune", 12, 6) == layer_map("kd", 12, 6) == ()


def test_an_explicit_list_is_kept_in_order() -> None:
    assert layer_map("1,5,2", 12, 4) == (1, 5, 2)


@pytest.mark.parametrize(
    ("strategy", "teacher", "student", "words"),
    [
        ("skp", 12, 6, "Did you mean `skip`"),
        ("2,4", 12, 6, "expected 5 teacher layers"),
        ("2,4,6,8,13", 12, 6, "layer 13 cannot be matched; the teacher has layers 1..12"),
        ("2,4,6,8,12", 12, 6, "taught by the logits"),
        ("0,4", 12, 3, "layer 0"),
        ("skip", 4, 6, "deeper than its teacher of 4"),
        ("last", 4, 6, "deeper than its teacher of 4"),
    ],
)
def test_a_map_that_cannot_be_says_why(
    strategy: str, teacher: int, student: int, words: str
) -> None:
    with pytest.raises(ParamsError, match=words.replace(".", r"\.")):
        layer_map(strategy, teacher, student)
