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


SKIP = {(12, 6): (2, 4, 6, 8, 10), (12, 3): (4, 8), (12, 2): (6,), (12, 1): ()} | {
    (24, 6): (4, 8, 12, 16, 20), (24, 3): (8, 16), (24, 2): (12,), (24, 1): (),
}  # fmt: skip


@pytest.mark.parametrize(("depths", "skip"), SKIP.items())
def test_controls_are_made_of_the_layers_of_skip(
    depths: tuple[int, int], skip: tuple[int, ...]
) -> None:
    assert layer_map("skip", *depths) == skip
    assert layer_map("reverse", *depths) == skip[::-1]
    assert layer_map("all-to-one", *depths) == skip[-1:] * len(skip)
    for seed in range(30):
        shuffled = layer_map("shuffled", *depths, seed=seed)
        assert sorted(shuffled) == list(skip)
        assert shuffled == layer_map("shuffled", *depths, seed=seed)
        assert shuffled != skip or len(skip) < 2


def test_every_other_order_is_drawn() -> None:
    """Of four layers there are 24 orders, one of which is that of skip."""
    found = {layer_map("shuffled", 12, 5, seed=seed) for seed in range(1000)}
    assert len(found) == 23
    assert layer_map("shuffled", 12, 6, seed=0) == (6, 4, 2, 10, 8), "on every machine"


@pytest.mark.parametrize(
    ("student", "top", "layers"),
    [
        (6, 10, (2, 3, 5, 7, 8, 10)),  # both of MUD's code
        (6, 8, (1, 3, 4, 5, 7, 8)),
        (4, 10, (3, 5, 8, 10)),  # theirs rounds 2.5 to 2; halves go up here, as in skip
        (1, 10, (10,)),
        (6, 12, (2, 4, 6, 8, 10, 12)),
        (10, 10, tuple(range(1, 11))),
    ],
)
def test_match_top_spreads_all_student_layers_up_to_a_teacher_layer(
    student: int, top: int, layers: tuple[int, ...]
) -> None:
    assert layer_map("skip", 12, student, match_top=top) == layers
    assert layer_map("last", 12, student, match_top=top) == tuple(range(top - student + 1, top + 1))
    assert layer_map("reverse", 12, student, match_top=top) == layers[::-1]
    assert layer_map("all-to-one", 12, student, match_top=top) == (top,) * student
    assert sorted(layer_map("shuffled", 12, student, match_top=top, seed=3)) == list(layers)


@pytest.mark.parametrize("top", [0, 13, -2])
def test_match_top_is_a_layer_of_the_teacher(top: int) -> None:
    with pytest.raises(ParamsError, match=rf"--match-top {top}: the teacher has layers 1\.\.12"):
        layer_map("skip", 12, 3, match_top=top)


def test_match_top_contradicts_a_list_and_a_teacher_too_shallow() -> None:
    with pytest.raises(ParamsError, match="leave it out beside a list of layers"):
        layer_map("4,8", 12, 3, match_top=10)
    with pytest.raises(
        ParamsError, match=r"--match-top 4: too low for a student of 6 layers, .* 6\.\.12"
    ):
        layer_map("skip", 12, 6, match_top=4)


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
        ("reverse", 4, 6, "deeper than its teacher of 4"),
        ("shuffel", 12, 6, "Did you mean `shuffled`"),
        ("all", 12, 6, "or teacher layers such as 2,4,6,8,10"),
        ("2,,4", 12, 4, "Unknown strategy `2,,4`"),
        ("2,4.5", 12, 3, "Unknown strategy `2,4.5`"),
        ("-1,4", 12, 3, "layer -1"),
    ],
)
def test_a_map_that_cannot_be_says_why(
    strategy: str, teacher: int, student: int, words: str
) -> None:
    with pytest.raises(ParamsError, match=words.replace(".", r"\.")):
        layer_map(strategy, teacher, student)
