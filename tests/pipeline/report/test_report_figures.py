"""Run with: pytest tests/pipeline/report/test_report_figures.py."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.report.cost import Cost
from pipeline.report.figures.curves import curve_of, draw_curves
from pipeline.report.figures.heat import draw_similarity, shared_range
from pipeline.report.figures.savings import draw_savings
from pipeline.report.figures.scores import draw_score_by_size, draw_scores
from pipeline.report.figures.svg import for_file, for_page, shortened, spread
from pipeline.report.formats import KEEP
from pipeline.report.load import parse_student
from pipeline.report.palette import STYLES, all_inks, styles_for
from pipeline.report.records import StudentRun
from pipeline.report.similarity import LayerSimilarity
from pipeline.report.tables import group_runs
from tests.pipeline.report.shelf import Shelf

HOSTILE = '$\\frac{x}$</text><script>alert(1)</script>"&\u6f22'


def run(shelf: Shelf, **changes: Any) -> StudentRun:
    return parse_student(shelf.record(**changes), Path("run"))


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)
    assert not any(element.tag.endswith("script") for element in root.iter())
    return [element.text or "" for element in root.iter() if element.tag.endswith("text")]


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([1.0, 50.0], [1.0, 50.0]),
        ([50.0, 50.0], [55.0, 45.0]),  # order of equals is theirs or its reverse
        ([30.0, 31.0, 32.0], [21.0, 31.0, 41.0]),
        ([2.0, 3.0], [0.0, 10.0]),  # pushed up from the lower end
        ([99.0, 100.0], [90.0, 100.0]),
    ],
)
def test_labels_are_moved_apart(places: list[float], moved: list[float]) -> None:
    found = spread(places, 10.0, 0.0, 100.0)
    assert sorted(found) == pytest.approx(sorted(moved))


def test_labels_keep_their_order() -> None:
    places = [7.0, 3.0, 5.0, 4.0, 60.0]
    found = spread(places, 10.0, 0.0, 100.0)
    assert np.argsort(found).tolist() == np.argsort(places).tolist()
    gaps = np.diff(sorted(found))
    assert (gaps >= 10.0 - 1e-6).all()


def test_a_long_label_loses_its_middle() -> None:
    assert shortened("skip") == "skip"
    assert shortened("a\n b") == "a b"
    assert shortened("skip (beta=100.0, temperature=20.0)", 16) == "skip (beta…20.0)"
    assert len(shortened("x" * 99, 16)) == 16


def test_a_curve_has_the_epochs_that_all_runs_have(prototype: Shelf) -> None:
    short = prototype.record(seed=1, score=0.70)
    short["history"] = short["history"][:2]
    (group,) = group_runs([run(prototype, score=0.66), parse_student(short, Path("y"))])
    curve = curve_of(group, lambda epoch: epoch.scores["validation"]["accuracy"])
    assert curve is not None
    assert curve.epochs == (1, 2)
    assert curve.samples[0].values == pytest.approx((0.62, 0.66))
    assert curve_of(group, lambda epoch: epoch.losses.get("nothing")) is None


def test_every_strategy_is_named_beside_its_curve(prototype: Shelf) -> None:
    groups = group_runs([run(prototype, strategy=s) for s in ("kd", "skip", "2,4")])
    curves = [c for g in groups if (c := curve_of(g, lambda epoch: epoch.losses["total"]))]
    svg = draw_curves(curves, styles_for(["kd", "skip", "2,4"]), heading="loss", slug="a")
    assert {"kd", "skip", "layers 2,4", "loss", "epoch"} <= set(texts(svg))


def test_scores_show_mean_deviation_and_teacher(prototype: Shelf) -> None:
    groups = group_runs([run(prototype, seed=0, score=0.64), run(prototype, seed=1, score=0.66)])
    found = texts(draw_scores(groups, STYLES, 0.7, metric="accuracy", slug="a"))
    assert f"65.0{KEEP}±{KEEP}1.4" in found  # 0.02 / sqrt(2)
    assert "teacher 70.0" in found
    assert "skip" in found


def test_score_by_size_draws_with_and_without_a_teacher(prototype: Shelf) -> None:
    groups = group_runs(
        [
            run(prototype, depth=3, parameters=1_000_000),
            run(prototype, depth=6, parameters=2_000_000),
        ]
    )
    with_teacher = draw_score_by_size(groups, STYLES, 0.7, metric="f1", slug="a")
    assert "teacher" in texts(with_teacher)
    assert "teacher" not in texts(draw_score_by_size(groups, STYLES, None, metric="f1", slug="a"))


@pytest.mark.parametrize("columns", [4, 24])
def test_matched_pairs_are_outlined(prototype: Shelf, columns: int) -> None:
    cosine = np.linspace(-0.25, 1.0, 2 * columns).reshape(2, columns)
    layers = tuple(range(1, columns + 1))
    outlines = []
    for layer_map in ([], [[1, 2]], [[1, 2], [2, 3]], [[1, 99]]):
        each = run(prototype, layer_map=layer_map)
        found = LayerSimilarity(run=each, cosine_ML=cosine, teacher_layers=layers, rows=5)
        assert shared_range([found]) == (-0.3, 1.0)
        svg = draw_similarity(found, (-0.3, 1.0), slug="a")
        outlines.append(svg.count("stroke-width: 2.2"))
    assert outlines == [0, 1, 2, 0]


@pytest.mark.parametrize("scale", [0.5, 50.0, 5000.0])
def test_savings_name_both_times(scale: float) -> None:
    cost = Cost(
        build_seconds=scale,
        pass_seconds=scale,
        saved_seconds=(4 * scale, 4 * scale),
        training_seconds=1.0,
        device="cpu",
        student_devices=("cpu",),
    )
    found = " ".join(texts(draw_savings(cost, slug="a")))
    assert "live: " in found
    assert "cache: " in found


def test_hostile_names_are_text(prototype: Shelf) -> None:
    groups = group_runs([run(prototype, strategy=HOSTILE)])
    styles = styles_for([HOSTILE])
    svg = draw_scores(groups, styles, None, metric=HOSTILE, slug="a")
    assert any("$" in text for text in texts(svg))  # no formula was made of it
    page = str(for_page(svg, HOSTILE))
    assert "<script" not in page
    assert "<script" not in for_file(svg, HOSTILE)
    ET.fromstring(for_file(svg, HOSTILE))


def test_pictures_on_one_page_share_no_id(prototype: Shelf) -> None:
    groups = group_runs([run(prototype)])
    found = []
    for slug in ("a", "b"):
        root = ET.fromstring(draw_scores(groups, STYLES, 0.7, metric="accuracy", slug=slug))
        found.append({element.get("id") for element in root.iter() if element.get("id")})
    assert found[0]
    assert not found[0] & found[1]


def test_a_picture_is_the_same_twice_and_swaps_its_colours(prototype: Shelf) -> None:
    groups = group_runs([run(prototype)])
    one, two = (draw_scores(groups, STYLES, 0.7, metric="accuracy", slug="a") for _ in range(2))
    assert one == two
    assert f"var(--skip, {STYLES['skip'].color})" in for_page(one, "x")
    assert "var(" not in for_file(one, "x")


def test_colours_are_all_different_and_unknown_strategies_get_spare_ones() -> None:
    assert len({ink.light for ink in all_inks()}) == len({ink.dark for ink in all_inks()})
    assert len({ink.light for ink in all_inks()}) == len(all_inks())
    found = styles_for(["skip", "zeta", "2,4"])
    assert found["skip"] is STYLES["skip"]
    assert found["zeta"] != found["2,4"]


def contrast(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_labels_can_be_read_on_paper_and_on_a_dark_screen() -> None:
    for ink in all_inks():
        if ink.name != "grid":
            assert contrast(ink.light, "#ffffff") >= 4.5, ink
            assert contrast(ink.dark, "#14181d") >= 4.5, ink
