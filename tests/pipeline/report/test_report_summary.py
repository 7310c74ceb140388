"""Run with: pytest tests/pipeline/report/test_report_summary.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.report import formats
from pipeline.report.summary import depth_sentence
from pipeline.report.tables import Sample, group_runs
from tests.pipeline.report.shelf import Shelf


def sentence(shelf: Shelf, scores: Mapping[str, tuple[float, ...]]) -> str:
    """The sentence for three-layer students, with ordinary spaces."""
    from pipeline.report.load import parse_student

    runs = [
        parse_student(shelf.record(strategy=strategy, seed=seed, score=score, depth=3), Path("x"))
        for strategy, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]
    return depth_sentence(3, group_runs(runs)).replace(formats.KEEP, " ")


def test_a_gap_within_the_noise_has_no_winner(prototype: Shelf) -> None:
    found = sentence(prototype, {"kd": (0.64, 0.66), "skip": (0.65, 0.67)})
    assert found == (
        "3 layers: skip scores highest, 66.0 ± 1.4 over 2 seeds (94 % of the teacher's score); "
        "next is kd with 65.0 ± 1.4. The gap of 1.0 is within one standard deviation over seeds "
        "(1.4): no clear winner."
    )


def test_a_gap_beyond_the_noise_has_a_winner(prototype: Shelf) -> None:
    found = sentence(prototype, {"kd": (0.60, 0.61, 0.60), "skip": (0.66, 0.67, 0.66)})
    assert "The gap of 6.0 exceeds the seed noise (0.6): a clear winner." in found


def test_a_gap_that_few_seeds_cannot_prove_is_called_so(prototype: Shelf) -> None:
    found = sentence(prototype, {"kd": (0.63, 0.65), "skip": (0.65, 0.67)})
    assert "can still be chance" in found
    assert "winner" not in found


def test_many_seeds_can_prove_a_gap_within_the_spread(prototype: Shelf) -> None:
    kd = tuple(0.60 + 0.01 * (seed % 5) for seed in range(40))
    found = sentence(prototype, {"kd": kd, "skip": tuple(score + 0.01 for score in kd)})
    assert "unlikely to be chance" in found


def test_one_seed_gives_no_verdict(prototype: Shelf) -> None:
    found = sentence(prototype, {"kd": (0.64,), "skip": (0.66, 0.68)})
    assert found.endswith("with one seed of kd its noise is unknown: no verdict.")


def test_equal_scores_are_called_equal(prototype: Shelf) -> None:
    assert "They are equal." in sentence(prototype, {"kd": (0.64,), "skip": (0.64,)})


def test_one_strategy_is_not_compared(prototype: Shelf) -> None:
    assert sentence(prototype, {"skip": (0.66,)}) == (
        "3 layers: only skip was trained, 66.0 with its only seed (94 % of the teacher's score)."
    )


def test_the_gain_over_fine_tuning_is_told_once(prototype: Shelf) -> None:
    three = {"finetune": (0.6, 0.6), "kd": (0.65, 0.65), "skip": (0.66, 0.66)}
    assert "Against fine-tuning alone (60.0 ± 0.0): +6.0, beyond the seed noise." in sentence(
        prototype, three
    )
    two = {"finetune": (0.6, 0.6), "skip": (0.66, 0.66)}
    assert "Against" not in sentence(prototype, two)


def test_distillation_that_adds_nothing_is_said_so(prototype: Shelf) -> None:
    found = sentence(prototype, {"finetune": (0.7, 0.7), "skip": (0.66, 0.66)})
    assert found.endswith("No distilled student is above fine-tuning on the labels alone.")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (formats.points(-0.1234), "−12.3"),
        (formats.signed_points(0.012), "+1.2"),
        (formats.mean_std(Sample((0.6634,))), "66.3"),
        (formats.percent_fine(0.94217), "94.2 %"),
        (formats.parameters(45_691_392), "45.7 M"),
        (formats.parameters(109_483_778), "109 M"),
        (formats.parameters(999_600), "1.00 M"),
        (formats.parameters(512), "512"),
        (formats.size(437_951_328), "438 MB"),
        (formats.size(0), "0 B"),
        (formats.size(12_345), "12.3 kB"),
        (formats.rate(1240.4), "1,240"),
        (formats.rate(3.21), "3.2"),
        (formats.seconds(0.84), "0.8 s"),
        (formats.seconds(42.4), "42 s"),
        (formats.seconds(59.7), "1 min 00 s"),
        (formats.seconds(200), "3 min 20 s"),
        (formats.seconds(3600), "1 h 00 min"),
        (formats.seconds(7500), "2 h 05 min"),
        (formats.times(2.94), "2.9×"),
        (formats.times(12.3), "12×"),
        (formats.counted(1, "seed"), "1 seed"),
        (formats.counted(3, "seed"), "3 seeds"),
        (formats.listed(["a"]), "a"),
        (formats.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_as_people_read_them(given: str, expected: str) -> None:
    assert given.replace(formats.KEEP, " ") == expected
