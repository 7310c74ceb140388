"""pytest tests/pipeline/student/test_teachers.py - several caches, joined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.caching.build import build_cache
from pipeline.errors import CacheMismatchError, ParamsError
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import _targets, load_rows
from pipeline.student.recipe import settle
from pipeline.student.targets import CachedTargets, controlled, load_targets
from pipeline.student.teachers import (
    DrawnTargets,
    averaged,
    matching_rows,
    other_logits,
    parse_weights,
    require_teachers,
)
from tests.pipeline.caching.test_reuse import lines_of, prepared
from tests.support.synthetic import write
from tests.support.tiny import CACHE, World

ONE = torch.tensor([[2.0, -1.0], [0.5, 1.5]])
TWO = torch.tensor([[0.0, 3.0], [1.0, -2.0]])
TARGETS = CachedTargets(ONE, torch.zeros(2, 0, 4))


def build(world: World, folder: Path, train: list[str], **changes: object) -> TeacherCache:
    data = prepared(folder, train, lines_of(world, "dev"))
    build_cache(
        prepared=data, teacher_name=str(world.teacher), out=folder / "c.zarr",
        params=replace(CACHE, **changes),  # type: ignore[arg-type]
    )  # fmt: skip
    return TeacherCache.open(folder / "c.zarr")


def test_rows_are_joined_by_content_not_by_place(world: World, tmp_path: Path) -> None:
    first = TeacherCache.open(world.cache)
    other = build(world, tmp_path / "other", lines_of(world, "train")[::-1])
    rows = matching_rows(first, other, "train")
    texts = [cache.examples("train")["input_ids"].to_pylist() for cache in (first, other)]
    assert [texts[1][row] for row in rows] == texts[0]
    (logits,) = other_logits(first, [other], "train", torch.device("cpu"))
    # the same teacher: the same outputs, up to batches of other shapes
    np.testing.assert_allclose(logits.numpy(), first.logits("train"), atol=5e-6)


def test_other_rows_and_other_tasks_are_refused(world: World, tmp_path: Path) -> None:
    first = TeacherCache.open(world.cache)
    fewer = build(world, tmp_path / "fewer", lines_of(world, "train")[:140])
    with pytest.raises(
        CacheMismatchError, match=r"lacks \d+ of the 150 train rows .* --max-length"
    ):
        matching_rows(first, fewer, "train")
    cut = build(world, tmp_path / "cut", lines_of(world, "train"), max_length=9)
    with pytest.raises(CacheMismatchError, match="lacks"):
        matching_rows(first, cut, "train")
    more = build(
        world, tmp_path / "more", [*lines_of(world, "train"), "one two\tthree\tentailment"]
    )
    with pytest.raises(CacheMismatchError, match=r"has 1 train rows that .* lacks \(row 150"):
        matching_rows(first, more, "train")
    from tests.support.synthetic import described

    write(tmp_path / "other.zarr")
    other = TeacherCache.open(tmp_path / "other.zarr")
    assert described()["task"]["name"] == "rte"
    renamed = replace(other.manifest, task=other.manifest.task | {"label_names": ["no", "yes"]})
    with pytest.raises(CacheMismatchError, match="label_names is .*'no', 'yes'"):
        matching_rows(first, TeacherCache(other.place, renamed), "train")


def test_an_average_is_the_mean_of_the_softened_outputs() -> None:
    weights, temperature = (0.25, 0.75), 4.0
    mixed = averaged(TARGETS, [TWO], weights, temperature).logits_NK
    powers = [np.exp(logits.double().numpy() / temperature) for logits in (ONE, TWO)]
    shares = [each / each.sum(-1, keepdims=True) for each in powers]
    expected = 0.25 * shares[0] + 0.75 * shares[1]
    np.testing.assert_allclose(torch.softmax(mixed / temperature, -1).numpy(), expected, rtol=1e-5)
    number = CachedTargets(torch.tensor([[2.0]]), torch.zeros(1, 0, 4))
    assert averaged(number, [torch.tensor([[6.0]])], weights, 4.0).logits_NK.item() == 5.0


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, 0.0)])
def test_a_teacher_averaged_with_itself_stays_as_it_is(weights: tuple[float, float]) -> None:
    """To the level of its logits, which the squared difference of `--kd-loss mse` sees."""
    mixed = averaged(TARGETS, [ONE.clone()], weights, 10.0).logits_NK
    torch.testing.assert_close(mixed, ONE, rtol=0, atol=1e-5)


def test_the_level_of_an_average_is_that_of_the_teachers() -> None:
    mixed = averaged(TARGETS, [TWO], (0.25, 0.75), 4.0).logits_NK
    torch.testing.assert_close(mixed.mean(-1), torch.tensor([1.25, -0.125]))  # by hand
    # at a high temperature the whole is the mean of the logits
    hot = averaged(TARGETS, [TWO], (0.25, 0.75), 1e3).logits_NK
    torch.testing.assert_close(hot, 0.25 * ONE + 0.75 * TWO, rtol=0, atol=0.01)


def test_a_weight_of_zero_is_another_teacher_alone() -> None:
    mixed = averaged(TARGETS, [TWO], (0.0, 1.0), 4.0).logits_NK
    torch.testing.assert_close(torch.softmax(mixed, -1), torch.softmax(TWO, -1))


def test_one_teacher_is_drawn_a_step_and_an_epoch_repeats_its_draws() -> None:
    drawn = DrawnTargets(TARGETS, [TWO], (0.25, 0.75), seed=3)
    rows = torch.tensor([1, 0])

    def steps(epoch: int) -> list[int]:
        drawn.start_epoch(epoch)
        found = [drawn(rows, {})[0] for _ in range(400)]
        assert all(torch.equal(f, ONE[rows]) or torch.equal(f, TWO[rows]) for f in found)
        return [int(torch.equal(each, TWO[rows])) for each in found]

    first = steps(1)
    assert 0.68 < sum(first) / 400 < 0.82
    assert steps(1) == first
    assert steps(2) != first


@pytest.mark.parametrize("text", ["1", "0.5,x", "1,-1", "0,0", "1,2,3", "nan,1", "inf,1"])
def test_bad_weights(text: str) -> None:
    with pytest.raises(ParamsError, match=r"--cache-weights .*: expected 2 numbers"):
        parse_weights(text, 2)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [({"cache_weights": "1,2"}, "--cache-weights"), ({"teachers": "drawn"}, "--teachers")],
)
def test_options_of_several_teachers_need_several(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(ParamsError, match=f"{flag} is for several teachers; name each one's"):
        require_teachers(StudentParams(**changes), 1)
    require_teachers(StudentParams(**changes), 2)
    require_teachers(StudentParams(), 1)


@pytest.mark.parametrize("how", ["averaged", "drawn"])
@pytest.mark.parametrize("control", ["permuted", "class-mean"])
def test_a_control_holds_for_every_teacher(
    world: World, tmp_path: Path, how: str, control: str
) -> None:
    """One teacher twice, in other orders: both are heard through the control."""
    cache = TeacherCache.open(world.cache)
    second = build(world, tmp_path / "second", lines_of(world, "train")[::-1])
    params = StudentParams(
        strategy="kd", student_layers=2, init=str(world.encoder), teachers=how,
        teacher_outputs=control,
    )  # fmt: skip
    recipe = settle(cache.manifest, params, "c")
    rows = load_rows(cache, "train", torch.device("cpu"))
    own = load_targets(cache, "train", (), torch.device("cpu"))
    expected_NK = controlled(own, rows.labels_N, control, params.seed).logits_NK
    found = _targets(cache, [second], recipe, params, rows)
    assert found
    every = torch.arange(len(rows))
    for _ in range(6):  # a draw may be of either
        torch.testing.assert_close(found(every, {})[0], expected_NK, rtol=0, atol=1e-4)


def test_weights_are_scaled_to_a_sum_of_one() -> None:
    assert parse_weights(None, 4) == (0.25,) * 4
    assert parse_weights("3,1", 2) == (0.75, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["averaged", "drawn"])
def test_a_student_of_two_teachers_through_the_command(
    world: World, tmp_path: Path, how: str
) -> None:
    import json

    from click.testing import CliRunner

    from stages.student import cli

    second = build(world, tmp_path / "second", lines_of(world, "train")[::-1])
    options = [
        "fit", "--cache", str(world.cache16), "--cache", second.text, "--teachers", how,
        "--cache-weights", "1,3", "--strategy", "skip", "--student-layers", "2", "--epochs", "1",
        "--init", str(world.encoder), "--out", str(tmp_path / "s"), "--device", "cpu",
    ]  # fmt: skip
    found = CliRunner().invoke(cli, options)
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "s" / "run.json").read_text())
    teacher = second.manifest.teacher["digest"]
    assert record["other_teachers"] == [{"name": "rte", "digest": teacher}]
    digest = second.manifest.content_digest
    assert record["identity"]["other_caches"] == [digest]
    card = " ".join((tmp_path / "s" / "README.md").read_text().split())
    done = {"averaged": "the mean was learned", "drawn": "one was drawn in every step"}[how]
    assert (
        f"Further teachers: `rte` (cache `{digest[:16]}`). Of all teachers' logits {done}" in card
    )
    again = CliRunner().invoke(cli, options)
    assert "nothing to do" in again.stderr
    fewer = build(world, tmp_path / "fewer", lines_of(world, "train")[:140])
    refused = CliRunner().invoke(
        cli, [*options[:4], fewer.text, *options[5:], "--out", str(tmp_path / "t")]
    )
    assert refused.exit_code == 1
    assert "lacks" in refused.stderr
    assert not (tmp_path / "t").exists()
