"""Run with: pytest tests/pipeline/report/test_report_build.py."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OutputExistsError, PipelineError
from pipeline.files import write_json
from pipeline.params import ReportParams
from pipeline.report.build import build_report
from pipeline.report.formats import KEEP
from pipeline.report.gather import representatives
from pipeline.report.load import load_students, parse_student
from pipeline.report.page import slugs_of
from pipeline.report.paths import without_paths
from pipeline.report.render import markdown_text
from pipeline.report.tables import group_runs, readable
from tests.pipeline.report.shelf import Shelf, copy_of, tiny_bert, tiny_distilbert

QUIET = ReportParams(latency_rows=0)
HOSTILE = "<script>alert('x')</script>|`$x$`"


def build(shelf: Shelf, params: ReportParams = QUIET) -> dict[str, str]:
    """The files of a report, pictures apart, with ordinary spaces."""
    out = shelf.root / "report"
    build_report(shelf.sources, out, params)
    return {
        path.name: path.read_text("utf-8").replace(KEEP, " ")
        for path in out.iterdir()
        if path.is_file()
    }


@pytest.fixture(scope="module")
def grid(prototype: Shelf, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A report on four strategies and a list of layers."""
    shelf = copy_of(prototype, tmp_path_factory.mktemp("grid") / "data")
    shelf.add_grid()
    shelf.add(strategy="2,4", score=0.61)
    return build(shelf)


def visible(html: str) -> str:
    """The text of a page."""
    parts: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            parts.append(data)

    Reader().feed(html)
    return " ".join(" ".join(parts).split())


def test_every_strategy_is_in_both_pages(grid: dict[str, str]) -> None:
    for page in (grid["report.md"], visible(grid["report.html"])):
        for strategy in ("finetune", "kd", "skip", "last", "layers 2,4", "teacher rte"):
            assert strategy in page
        assert "2 layers: skip scores highest, 67.0 ± 1.4 over 2 seeds (96 % of the" in page
    assert "| skip | 2 | 67.0 ± 1.4 | 2 | 95.7 % | 10.0 k | 40.0 kB |" in grid["report.md"]
    assert "| teacher rte | 4 | 70.0 |  |  | 20.0 k | 80.0 kB |" in grid["report.md"]


def test_costs_stand_in_the_page(grid: dict[str, str]) -> None:
    page = grid["report.md"]
    # 30 s of build, 20 s a pass, 3 epochs, 7 distilled students of 6 s each
    for line in (
        "| Teacher time saved per student, on average | 1 min 00 s |",
        "| Paid for after (exactly: 0.50) | 1 student |",
        "| Teacher time of 7 distilled students, live | 7 min 00 s |",
        "| All together, live | 7 min 42 s |",
        "| All together, cached | 1 min 12 s |",
    ):
        assert line in page


def test_rows_without_labels_stand_in_both_pages_where_there_are_any(
    shelf: Shelf, grid: dict[str, str]
) -> None:
    for seed, rows in enumerate((1100, 1100, 2100)):
        shelf.add(strategy="kd", seed=seed, train_rows=rows, labelled_rows=1000)
    pages = build(shelf)
    for page in (pages["report.md"], visible(pages["report.html"])):
        for line in (
            "Training rows: 1,100, of which 1,000 have a label and 100 have none.",
            "Training rows: 2,100, of which 1,000 have a label and 1,100 have none.",
        ):
            assert page.count(line) == 1
    assert not [text for text in grid.values() if "Training rows:" in text]


def test_auto_stands_in_both_pages_with_its_layers(shelf: Shelf) -> None:
    shelf.add(strategy="auto", layer_map=[[1, 3]])
    pages = build(shelf)
    for page in (pages["report.md"], visible(pages["report.html"])):
        assert "auto 3" in page
    assert "auto-2" in json.loads(pages["metrics.json"])["rte"]


def test_numbers_for_dvc_by_hand(grid: dict[str, str]) -> None:
    metrics = json.loads(grid["metrics.json"])["rte"]
    assert metrics["skip-2"] == {"mean": 0.67, "std": 0.014142, "n": 2, "kept": 0.957143}
    assert metrics["teacher"] == {"mean": 0.7}
    scores = list(csv.DictReader(io.StringIO(grid["scores.csv"])))
    assert len(scores) == 9
    assert scores[0] == {
        "panel": "rte, 2 layers",
        "model": "finetune",
        "task": "rte",
        "strategy": "finetune",
        "depth": "2",
        "seed": "0",
        "run": "rte-finetune-2-s0",
        "metric": "accuracy",
        "score": "0.6",
        "kept": "0.857143",
    }
    curves = list(csv.DictReader(io.StringIO(grid["curves.csv"])))
    terms = {row["term"] for row in curves if row["strategy"] == "skip"}
    assert terms == {"ce", "kd", "pt", "total", "validation score"}
    assert {row["epoch"] for row in curves} == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("name", "x", "y"), [("scores", "score", "model"), ("curves", "epoch", "value")]
)
def test_plot_templates_name_columns_that_exist(
    grid: dict[str, str], name: str, x: str, y: str
) -> None:
    template = (resources.files("pipeline.report") / f"templates/dvc/{name}.json").read_text(
        "utf-8"
    )
    fields = set(re.findall(r'"field": "(\w+)"', json.dumps(json.loads(template))))
    computed = {"at", "reading", "rev"}  # by the template itself; by DVC
    columns = set(grid[f"{name}.csv"].splitlines()[0].split(","))
    assert (fields - computed) | {x, y} <= columns


def test_one_seed_has_no_deviation_in_the_metrics(grid: dict[str, str]) -> None:
    metrics = json.loads(grid["metrics.json"])["rte"]
    assert set(metrics["2,4-2"]) == {"mean", "n", "kept"}


def test_the_page_fetches_nothing_and_runs_nothing(grid: dict[str, str]) -> None:
    html = grid["report.html"]
    tags: list[tuple[str, dict[str, Any]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append((tag, dict(attrs)))

    Reader().feed(html)
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "img", "object")]
    links = [v for _, a in tags for k, v in a.items() if k in ("src", "href", "xlink:href", "data")]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)|@import", html)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in links} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert targets <= set(ids)


def test_hostile_names_are_text_everywhere(shelf: Shelf) -> None:
    shelf.add(
        "one", strategy=HOSTILE, task=HOSTILE, metric=HOSTILE, scores={HOSTILE: {HOSTILE: 0.5}}
    )
    (shelf.sources.students / "<b>no run").mkdir()
    files = build(shelf)
    assert "<script" not in files["report.html"]
    assert "<script" not in files["report.md"]
    assert "<b>" not in files["report.html"] + files["report.md"]
    assert HOSTILE in visible(files["report.html"])
    assert "<b>no run: no run.json" in visible(files["report.html"])
    figures = [path.name for path in (shelf.root / "report" / "figures").iterdir()]
    assert figures
    assert all(re.fullmatch(r"[a-z0-9-]+\.svg", name) for name in figures)


def test_markdown_text_is_one_escaped_line() -> None:
    assert markdown_text("a|b\n`c` [d](e) _f_ g_h <i> &") == (
        "a\\|b \\`c\\` \\[d\\](e) \\_f\\_ g_h &lt;i&gt; &amp;"
    )


def test_slugs_are_safe_and_different() -> None:
    slugs = slugs_of(["rte", "../../etc", "RTE", "漢字", "My task"])
    assert slugs["rte"] == "rte"
    assert len(set(slugs.values())) == 5
    assert all(re.fullmatch(r"[a-z0-9-]+", slug) for slug in slugs.values())


def test_the_same_runs_give_the_same_bytes(shelf: Shelf) -> None:
    shelf.add(strategy="kd")
    shelf.add(strategy="skip")
    build_report(shelf.sources, shelf.root / "one", QUIET)
    build_report(shelf.sources, shelf.root / "two", QUIET)
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (shelf.root / "one", shelf.root / "two")
    )
    assert one == two
    assert len(one) > 10


def test_no_path_of_the_machine_is_in_a_report(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    (shelf.sources.teachers / "rte" / "config.json").unlink()
    (shelf.root / "rte.zarr" / "validation" / "examples.arrow").write_bytes(b"")
    shelf.add("no-model", strategy="kd", seed=0)
    (shelf.sources.students / "no-model" / "model.safetensors").unlink()
    out = shelf.root / "report"
    build_report(shelf.sources, out, ReportParams(latency_rows=4))
    for path in out.rglob("*"):
        if path.is_file():
            assert str(shelf.root) not in path.read_text("utf-8"), path


def test_a_missing_teacher_is_said_in_place(shelf: Shelf) -> None:
    shelf.add()
    shutil.rmtree(shelf.sources.teachers)
    page = build(shelf)["report.md"]
    assert "_Teacher rte: its folder is not here; its size and speed are left out._" in page
    assert "| teacher rte | 4 | 70.0 |  |  | 20.0 k | – |" in page  # from the students' records


def test_another_teacher_in_the_folder_is_noticed(shelf: Shelf) -> None:
    shelf.add()
    folder = shelf.sources.teachers / "rte"
    shutil.copy(shelf.root / "student-model" / "model.safetensors", folder)
    shutil.copy(shelf.root / "student-model" / "config.json", folder)
    page = build(shelf)["report.md"]
    assert "the folder holds another model than these students learned from" in page


def test_a_missing_cache_is_said_once(shelf: Shelf) -> None:
    shelf.add(strategy="kd")
    shelf.add(strategy="skip")
    shutil.rmtree(shelf.root / "rte.zarr")
    page = build(shelf, ReportParams(latency_rows=4))["report.md"]
    names = "rte-kd-2-s0 and rte-skip-2-s0"
    assert f"_Left out for {names}: the cache rte.zarr is not here._" in page
    assert f"_Inference speed not measured for {names}: the cache rte.zarr is not here._" in page


def test_missing_cache_metrics_are_said(shelf: Shelf) -> None:
    shelf.add()
    shutil.rmtree(shelf.sources.metrics)
    page = build(shelf)["report.md"]
    assert "_Left out: the build time of the cache is not known (no cache-rte.json)._" in page
    assert "Paid for" not in page


def test_a_student_of_another_cache_has_no_layer_picture(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    other = {"name": "rte.zarr", "cache_id": "0" * 64, "content_digest": "c"}
    shelf.add("stray", strategy="emd", cache=other)
    files = build(shelf)
    assert (
        "Left out for stray: it learned from cache 00000000, the one at hand is"
        in (files["report.md"])
    )
    assert "emd, 2 layers, seed 0" not in visible(files["report.html"])
    assert "skip, 2 layers, seed 0" in visible(files["report.html"])


def test_a_student_without_weights_is_named_once(shelf: Shelf) -> None:
    (shelf.add("empty") / "model.safetensors").unlink()
    page = build(shelf)["report.md"]
    assert "_Left out for empty: no model could be loaded from that folder: " in page


def test_names_that_are_paths_are_not_followed(shelf: Shelf) -> None:
    record = shelf.record(task="../rte")
    record["teacher"]["name"] = "../teachers/rte"
    record["cache"]["name"] = "../data/rte.zarr"
    shelf.add("sly", **{key: record[key] for key in ("task", "teacher", "cache")})
    page = build(shelf)["report.md"]
    assert "its folder is not here" in page
    assert "the cache ../data/rte.zarr is not here" in page


def test_students_of_two_teachers_are_told_apart(shelf: Shelf) -> None:
    shelf.add(strategy="kd")
    record = shelf.record(strategy="skip")
    record["teacher"] = {**record["teacher"], "digest": "f" * 64, "name": "other"}
    shelf.add("other", strategy="skip", teacher=record["teacher"])
    page = build(shelf)["report.md"]
    assert "These students learned from 2 different teachers" in page
    assert "| teacher other |" in page
    assert "| teacher rte |" in page


def test_speed_is_measured_once_per_size(shelf: Shelf) -> None:
    shelf.add(strategy="kd")
    shelf.add(strategy="skip")
    ticks: list[str] = []

    def tick(what: str, done: int, total: int, **figures: float) -> None:
        ticks.append(what)

    out = shelf.root / "report"
    build_report(shelf.sources, out, ReportParams(latency_rows=4), tick)
    page = (out / "report.md").read_text("utf-8").replace(KEEP, " ")
    assert "| rows/s (cpu) | speed-up | ms, one row |" in page
    assert re.search(r"\| teacher rte \|.*\| 1\.0× \|", page)
    speeds = {
        tuple(line.split(" | ")[-3:])
        for line in page.splitlines()
        if re.match(r"\| (kd|skip) .*×", line)
    }
    assert len(speeds) == 1
    assert {"rte: inference speed", "rte: layer similarity"} == set(ticks)


OTHERS: list[tuple[str, Callable[[int, int], Any], dict[str, Any]]] = [
    # of the strategies the one whose rows would break the other's models comes last
    ("skip", lambda layers, seed: tiny_bert(layers, seed, words=96), {"words": 96}),
    ("kd", tiny_distilbert, {"typed": False}),
]


@pytest.mark.parametrize(("strategy", "make", "tokens"), OTHERS)
def test_speed_is_measured_on_the_tokens_that_a_model_reads(
    shelf: Shelf, strategy: str, make: Callable[[int, int], Any], tokens: dict[str, Any]
) -> None:
    """Ids beyond the other's vocabulary; token types that the other does not know."""
    other = shelf.add_other_teacher(make(4, 5), **tokens)
    shelf.add(strategy={"skip": "kd", "kd": "skip"}[strategy])
    folder = shelf.add("other", strategy=strategy, parameters=12_000, **other)
    make(2, 6).save_pretrained(folder)
    page = build(shelf, ReportParams(latency_rows=4))["report.md"]
    assert "_These models read 2 kinds of tokens; each is timed on its own kind._" in page
    assert "not measured" not in page
    lines = [line for line in page.splitlines() if re.match(r"\| (teacher|kd|skip) .*\|", line)]
    timed = [line for line in lines if re.search(r"\| [\d,.]+ \| – \| [\d.]+ \|$", line)]
    assert len(timed) == 4, page


def test_a_teacher_whose_tokens_are_not_here_is_not_timed(shelf: Shelf) -> None:
    other = shelf.add_other_teacher(tiny_bert(4, 5, words=96), words=96)
    shelf.add(strategy="kd")
    shelf.add("other", strategy="skip", parameters=12_000, **other)
    shutil.rmtree(shelf.root / "other.zarr")
    page = build(shelf, ReportParams(latency_rows=4))["report.md"]
    assert "_Inference speed not measured for teacher other: no cache of it is here._" in page
    assert "_Inference speed not measured for other: the cache other.zarr is not here._" in page
    assert re.search(r"\| teacher rte \|.*\| [\d.]+ \|\n", page)
    assert re.search(r"\| teacher other \|.*\| – \| – \| – \|\n", page)


def test_layer_pictures_are_of_the_lowest_seed_at_a_common_depth(shelf: Shelf) -> None:
    for strategy, depth, seed in [
        ("kd", 2, 1), ("kd", 2, 0), ("kd", 3, 0), ("skip", 2, 2), ("skip", 2, 5), ("last", 3, 1)
    ]:  # fmt: skip
        shelf.add(strategy=strategy, depth=depth, seed=seed)
    runs, _ = load_students(shelf.sources.students)
    chosen = {run.strategy: (run.depth, run.seed) for run in representatives(group_runs(runs))}
    # depths 2 and 3 have two strategies each: the deeper one; skip has only depth 2
    assert chosen == {"kd": (3, 0), "last": (3, 1), "skip": (2, 2)}


def test_a_sweep_shows_the_best_of_each_strategy_in_a_panel(prototype: Shelf) -> None:
    runs = [
        parse_student(
            prototype.record(strategy=strategy, score=score, params={"beta": beta}), Path("run")
        )
        for beta in range(7)
        for strategy, score in (("kd", 0.6 + beta / 100), ("skip", 0.7 - beta / 100))
    ]
    groups = group_runs(runs)
    assert len(groups) == 14
    assert [group.label for group in readable(groups)] == ["kd (beta=6)", "skip (beta=0)"]
    assert readable(groups[:12]) == groups[:12]


def test_layer_similarity_can_be_left_out(shelf: Shelf) -> None:
    shelf.add()
    page = build(shelf, ReportParams(latency_rows=0, similarity_rows=0))["report.md"]
    assert "_Left out: similarity_rows is 0._" in page


def test_no_runs_is_an_error_with_the_next_command(shelf: Shelf) -> None:
    with pytest.raises(PipelineError, match=r"students: no student run.*`pkd-student fit --cache"):
        build(shelf)
    (shelf.sources.students / "broken").mkdir()
    with pytest.raises(PipelineError, match=r"broken: no run\.json"):
        build(shelf)
    shutil.rmtree(shelf.sources.students)
    with pytest.raises(PipelineError, match=r"students: no such folder; .*--students"):
        build(shelf)
    assert not (shelf.root / "report").exists()


def test_only_a_report_is_replaced(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    out = shelf.root / "report"
    build_report(shelf.sources, out, QUIET)
    (out / "figures" / "stale.svg").write_text("old")
    build_report(shelf.sources, out, QUIET)
    assert not (out / "figures" / "stale.svg").exists()
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(OutputExistsError, match=r"it holds mine\.txt"):
        build_report(shelf.sources, out, QUIET)
    assert (out / "mine.txt").read_text() == "keep me"
    with pytest.raises(OutputExistsError, match="it is no folder"):
        build_report(shelf.sources, out / "mine.txt", QUIET)


def test_several_metrics_and_splits_have_columns(shelf: Shelf) -> None:
    scores = {
        "validation_matched": {"accuracy": 0.71},
        "validation_mismatched": {"accuracy": 0.72},
    }
    teacher = shelf.record()["teacher"] | {"scores": {"validation_matched": {"accuracy": 0.8}}}
    shelf.add(task="mnli", scores=scores, teacher=teacher)
    page = build(shelf)["report.md"]
    assert "| model | layers | accuracy | n | kept | accuracy, mismatched | parameters |" in page
    assert "| skip | 2 | 71.0 | 1 | 88.8 % | 72.0 |" in page


def test_errors_lose_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "rte.zarr"
    assert (
        without_paths(f"{folder}: broken ({folder}/x).", folder) == "rte.zarr: broken (rte.zarr/x)"
    )


def test_a_damaged_cache_is_named(shelf: Shelf) -> None:
    shelf.add(strategy="skip")
    manifest = shelf.root / "rte.zarr" / "manifest.json"
    content = json.loads(manifest.read_text())
    write_json(manifest, content)  # indented: no longer canonical
    page = build(shelf)["report.md"]
    assert "Left out for rte-skip-2-s0: rte.zarr/manifest.json: not in canonical form" in page
