"""pytest tests/pipeline/student/test_auto_layers.py - layers chosen from the cache.

Shapes: R rows of a probe, H hidden size.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.batches import labels_of
from pipeline.caching.build import build_cache
from pipeline.data import load_prepared
from pipeline.data.prepare import prepare
from pipeline.errors import CacheMismatchError, OutputExistsError, ParamsError
from pipeline.params import DataParams, StudentParams
from pipeline.probe import layers as probe
from pipeline.probe.layers import choose_layers, probe_layers
from pipeline.store.reader import TeacherCache
from pipeline.strategies import STRATEGIES
from pipeline.student.auto_layers import choose
from pipeline.student.fit import fit_student
from pipeline.student.recipe import default_folder
from pipeline.tasks import BUILT_IN
from stages.student import cli
from tests.pipeline.caching.test_build import build
from tests.pipeline.strategies.matched import StoppedError, fit, stop_in_the_second_epoch
from tests.support.runs import strategy_for
from tests.support.tiny import CACHE, STUDENT, World, save_encoder

AUTO = replace(STUDENT, strategy="auto", student_layers=3)


def planted(monkeypatch: pytest.MonkeyPatch, **noise_of: float) -> None:
    """Vectors of which one number is the label, under more or less noise: l1=9.0, l2=0.1, ..."""

    def states(cache: TeacherCache, split: str, layer: int, rows_R: np.ndarray) -> np.ndarray:
        draw = np.random.default_rng(layer)
        states_RH = draw.normal(size=(len(rows_R), cache.manifest.hidden_size))
        signal_R = 2.0 * labels_of(cache.examples(split))[rows_R] - 1
        states_RH[:, 0] = signal_R + noise_of[f"l{layer}"] * states_RH[:, 0]
        return states_RH

    monkeypatch.setattr(probe, "_states", states)


@pytest.fixture(scope="module")
def student(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("auto") / "rte-auto-3-s0"
    fit(world, out, strategy="auto", student_layers=3)
    return out


def record_of(student: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((student / "run.json").read_text())
    return content


# the choice


def test_layers_are_where_the_teacher_comes_to_know_the_task(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skip reads layer 2 of four for two; the probes say where the label comes up."""
    cache = TeacherCache.open(world.cache16)
    two = replace(AUTO, student_layers=2)
    for noise, layer in (
        ({"l1": 0.01, "l2": 0.01, "l3": 0.01, "l4": 0.01}, 1),
        ({"l1": 99.0, "l2": 0.01, "l3": 0.01, "l4": 0.01}, 2),
        ({"l1": 99.0, "l2": 99.0, "l3": 0.01, "l4": 0.01}, 3),
        ({"l1": 99.0, "l2": 99.0, "l3": 99.0, "l4": 0.01}, 3),  # never the last
    ):
        with monkeypatch.context() as patch:
            planted(patch, **noise)
            found = choose(cache, two)
        assert found.layers == (layer,)
        assert found.held_out[4] == 1.0
        assert found.metric == "accuracy"


def test_the_choice_is_that_of_the_probes_that_the_command_shows(
    world: World, student: Path
) -> None:
    cache, record = TeacherCache.open(world.cache16), record_of(student)
    shown = probe_layers(cache)
    layers = choose_layers(shown, 4, 2)
    assert record["strategy"] == record["params"]["strategy"] == "auto"
    assert record["layer_map"] == [[1, layers[0]], [2, layers[1]]]
    assert record["teacher_layers_read"] == list(layers)
    assert record["probes"] == {
        "layers": list(layers),
        "metric": "accuracy",
        "held_out": {str(each.layer): each.held_out for each in shown},
    }


def test_the_validation_rows_have_no_part_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TeacherCache.open(world.cache16)
    read: list[str] = []
    original = TeacherCache.examples

    def spy(self: TeacherCache, split: str) -> Any:
        read.append(split)
        return original(self, split)

    monkeypatch.setattr(TeacherCache, "examples", spy)
    choose(cache, AUTO)
    assert set(read) == {"train"}
    assert all(each.validation is None for each in probe_layers(cache, validation=False))


def test_vectors_are_read_layer_by_layer_and_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, tuple[int, ...]]] = []
    pieces: list[weakref.ref[Any]] = []
    alive: list[int] = []
    original = TeacherCache.shards

    def spy(self: TeacherCache, split: str, layers: Any) -> Iterator[Any]:
        read.append((split, tuple(layers)))
        for rows, stored in original(self, split, layers):
            pieces.append(weakref.ref(stored.values_RLH))
            alive.append(sum(piece() is not None for piece in pieces))
            yield rows, stored

    monkeypatch.setattr(TeacherCache, "shards", spy)
    choose(TeacherCache.open(world.cache16), AUTO)
    assert read == [("train", (layer,)) for layer in (1, 2, 3, 4)]
    assert len(pieces) == 4 * 4  # shards of 40 rows
    assert max(alive) <= 2, "the one that was read last, and the next"
    assert not [piece for piece in pieces if piece() is not None]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_drawn_rows_of_every_shard_are_their_own(
    world: World, tmp_path: Path, dtype: str
) -> None:
    cache = TeacherCache.open(build(world, tmp_path / "c.zarr", dtype=dtype))
    rows = np.random.default_rng(3).permutation(150)[:61]
    expected = cache.cls("train", [3])[:, 0][rows]
    np.testing.assert_array_equal(probe._states(cache, "train", 3, rows), expected)


def test_all_seeds_get_the_same_layers(world: World) -> None:
    cache = TeacherCache.open(world.cache16)
    found = [choose(cache, replace(AUTO, seed=seed)) for seed in range(4)]
    assert all(each == found[0] for each in found)


# the run


def test_a_run_is_that_of_the_layers_by_name(world: World, student: Path, tmp_path: Path) -> None:
    """Two roads to the same bytes."""
    layers = record_of(student)["probes"]["layers"]
    fit(world, tmp_path / "s", strategy=",".join(map(str, layers)), student_layers=3)
    one, other = (folder / "model.safetensors" for folder in (student, tmp_path / "s"))
    assert one.read_bytes() == other.read_bytes()


def test_the_same_again_does_nothing_and_probes_nothing(
    world: World, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("pipeline.student.auto_layers.probe_layers")
    assert fit(world, student, strategy="auto", student_layers=3)["existed"]
    assert record_of(student)["identity"]["params"]["strategy"] == "auto"
    with pytest.raises(OutputExistsError, match='strategy: "auto" there, "skip" now'):
        fit(world, student, strategy="skip", student_layers=3)


def test_a_run_that_was_cut_goes_on(world: World, student: Path, tmp_path: Path) -> None:
    params = replace(AUTO, init=str(world.encoder))
    with pytest.raises(StoppedError):
        fit_student(
            cache_path=world.cache16, out=tmp_path / "s", params=params, sources={},
            on_step=stop_in_the_second_epoch,
        )  # fmt: skip
    fit(world, tmp_path / "s", strategy="auto", student_layers=3, resume=True)
    one, other = (folder / "model.safetensors" for folder in (student, tmp_path / "s"))
    assert one.read_bytes() == other.read_bytes()


def test_only_the_chosen_layers_are_held_for_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[int, ...]] = []
    original = TeacherCache.stored

    def spy(self: TeacherCache, split: str, layers: Any) -> Any:
        held.append(tuple(layers))
        return original(self, split, layers)

    monkeypatch.setattr(TeacherCache, "stored", spy)
    record = fit(world, tmp_path / "s", strategy="auto", student_layers=3, epochs=1)
    assert held == [tuple(record["probes"]["layers"])]


def test_the_command_says_which_and_why(
    world: World, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "--cache", str(world.cache16), "--init", str(world.encoder)]
    more = ["--strategy", "auto", "--student-layers", "3", "--epochs", "1"]
    found = CliRunner().invoke(cli, arguments + more)
    assert found.exit_code == 0, found.output
    probes = record_of(student)["probes"]
    (line,) = [each for each in found.stderr.splitlines() if "auto: layers" in each]
    layers = ",".join(map(str, probes["layers"]))
    assert f"auto: layers {layers}, at equal steps of what linear probes know (held" in line
    assert f"held-out accuracy by layer 1: {probes['held_out']['1']:.3f}, 2: " in line
    assert (tmp_path / "data" / "students" / "rte-auto-3-s0" / "run.json").is_file()
    assert default_folder(BUILT_IN["rte"], AUTO) == Path("data/students/rte-auto-3-s0")


def test_one_layer_has_nothing_to_choose(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("pipeline.student.auto_layers.probe_layers")
    record = fit(world, tmp_path / "s", strategy="auto", student_layers=1, epochs=1)
    assert set(record["history"][0]["losses"]) == {"ce", "kd", "total"}
    assert (record["strategy"], record["layer_map"]) == ("auto", [])
    assert record["probes"] == {"layers": [], "metric": "accuracy", "held_out": {}}


@pytest.mark.parametrize(("layers", "wanted"), [(1, 1), (2, 3)])
def test_passes_of_shared_layers_are_given_layers_too(
    world: World, tmp_path: Path, layers: int, wanted: int
) -> None:
    record = fit(
        world, tmp_path / "s", strategy="auto", share="sps", student_layers=layers, epochs=1
    )
    assert len(record["probes"]["layers"]) == wanted
    expected = list(enumerate(record["probes"]["layers"], start=1))
    assert [tuple(pair) for pair in record["layer_map"]] == expected


def test_six_shared_layers_match_every_third_pass(world: World, tmp_path: Path) -> None:
    deep = save_encoder(tmp_path / "deep", layers=6)
    more: dict[str, Any] = {"init": str(deep), "share": "sps", "student_layers": 6, "epochs": 1}
    record = fit(world, tmp_path / "s", strategy="auto", **more)
    assert [student for student, _ in record["layer_map"]] == [3, 6]
    assert [teacher for _, teacher in record["layer_map"]] == record["probes"]["layers"]


def test_other_strategies_have_no_probes(world: World, tmp_path: Path) -> None:
    assert fit(world, tmp_path / "s", strategy="kd", epochs=1)["probes"] is None


# refusals


def test_what_cannot_be_chosen_is_refused_before_any_training(world: World, tmp_path: Path) -> None:
    few = build(world, tmp_path / "few.zarr", layers="2,4")
    out = tmp_path / "s"
    with pytest.raises(CacheMismatchError, match="2 layers below the last are needed, 1 are"):
        fit(world, out, cache=few, strategy="auto", student_layers=3)
    deep = str(save_encoder(tmp_path / "deep", layers=6))
    with pytest.raises(ParamsError, match="`auto`: a student of 5 layers is deeper .* of 4; lower"):
        fit(world, out, init=deep, strategy="auto", student_layers=5)
    with pytest.raises(ParamsError, match=r"8 passes \(4 layers with --share sps\) is deeper"):
        fit(world, out, strategy="auto", student_layers=4, share="sps")
    with pytest.raises(ParamsError, match="--match-top 3: strategy auto does not take it; skip"):
        fit(world, out, strategy="auto", match_top=3)
    assert not out.exists()


def test_a_cache_with_few_labels(world: World, tmp_path: Path) -> None:
    raw, cache = tmp_path / "raw" / "rte", tmp_path / "c.zarr"
    prepare(BUILT_IN["rte"], DataParams(source=str(world.source), max_labelled_samples=8), raw)
    build_cache(
        prepared=load_prepared(raw, "rte"), teacher_name=str(world.teacher), out=cache, params=CACHE
    )
    with pytest.raises(CacheMismatchError, match="8 labelled training rows are too few for a pro"):
        fit(world, tmp_path / "s", cache=cache, strategy="auto", student_layers=3)
    assert not (tmp_path / "s").exists()


def test_rows_of_one_class_have_nothing_to_tell_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = probe._labelled_rows

    def one_class(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = original(*arguments)
        return rows[labels == 1], labels[labels == 1]

    monkeypatch.setattr(probe, "_labelled_rows", one_class)
    with pytest.raises(CacheMismatchError, match="all of one class; there is nothing to tell"):
        choose(TeacherCache.open(world.cache16), AUTO)


def test_without_a_cache_there_is_no_strategy() -> None:
    assert "auto" not in STRATEGIES
    with pytest.raises(ParamsError, match="its layers are chosen from a cache first"):
        strategy_for(StudentParams(strategy="auto"))
    with pytest.raises(ParamsError, match=r"`atuo`. Did you mean `auto`\? Expected finetune, kd"):
        strategy_for(StudentParams(strategy="atuo"))


def test_help_and_documents_name_it() -> None:
    text = " ".join(CliRunner().invoke(cli, ["fit", "--help"]).output.split())
    assert "auto (layers chosen from the cache by linear probes)" in text
    root = Path(__file__).parents[3]
    for page in ("README.md", "docs/methods.md"):
        assert "| `auto` |" in (root / page).read_text("utf-8")
