"""pytest tests/pipeline/report/test_report_figures_bench.py."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from pipeline.bench.measure import Timing
from pipeline.report.figures import bench
from pipeline.report.palette import TEXT

MACHINE = {"processor": "P", "cores": 2, "threads": 1, "load_before": 0.5}


def contender(name: str, role: str = "student", runtime: str = "pytorch", of: str = "") -> Any:
    return SimpleNamespace(name=name, role=role, runtime=runtime, digest=of or name)


CONTENDERS = [
    contender("T", "teacher"),
    contender("S"),
    contender("S, ONNX", runtime="float32", of="S"),
    contender("R"),
]
TIMINGS = [
    Timing(
        name=each.name, batch_size=batch, length=length, calls=10,
        p50_ms=place * batch * length, p95_ms=1.5 * place * batch * length,
        rows_per_second=1000 / (place * length),
    )
    for place, each in enumerate(CONTENDERS, 1)
    for batch in (1, 8)
    for length in (4, 16)
]  # fmt: skip


def test_an_export_has_the_colour_of_its_student_and_the_teacher_is_black() -> None:
    colors = bench._colors(CONTENDERS)
    assert colors["T"] == TEXT.light
    assert len(set(colors.values())) == 3
    looks = [bench._look(each, colors[each.digest]) for each in CONTENDERS]
    assert looks[1]["color"] == looks[2]["color"]
    assert looks[1]["linestyle"] != looks[2]["linestyle"]


def test_every_figure_is_drawn(monkeypatch: Any) -> None:
    """The points of the axes are the timings, a column per length."""
    from matplotlib.figure import Figure

    seen: list[Figure] = []
    save = Figure.savefig

    def spy(figure: Figure, *arguments: Any, **more: Any) -> None:
        seen.append(figure)
        save(figure, *arguments, **more)

    monkeypatch.setattr(Figure, "savefig", spy)
    before = dict(mpl.rcParams)
    picture = Image.open(io.BytesIO(bench.draw_bench(CONTENDERS, TIMINGS, MACHINE)))
    assert dict(mpl.rcParams) == before
    assert picture.format == "PNG"
    assert min(picture.size) > 800
    upper4, upper16, lower4, lower16 = seen[0].axes
    for axes, length in ((upper4, 4), (upper16, 16)):
        drawn = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
        expected = [[p * 1 * length, p * 8 * length] for p in range(1, 5)]
        np.testing.assert_allclose(np.array(drawn), np.array(expected))
    drawn = [np.asarray(line.get_ydata()) for line in lower16.get_lines()]
    rates = [[1000 / (p * 16)] * 2 for p in range(1, 5)]
    np.testing.assert_allclose(np.array(drawn), np.array(rates))
    assert lower4.get_ylim()[0] == 0
    texts = {text.get_text() for axes in (upper16, lower16) for text in axes.texts}
    assert texts >= {"T", "S", "S, ONNX", "R"}
    assert any("2\N{NO-BREAK SPACE}cores" in text.get_text() for text in seen[0].texts)


def test_one_length_and_one_batch_size() -> None:
    one = [each for each in TIMINGS if (each.batch_size, each.length) == (8, 4)]
    picture = Image.open(
        io.BytesIO(bench.draw_bench(CONTENDERS, one, MACHINE | {"load_before": None}))
    )
    assert picture.size[0] > 400
