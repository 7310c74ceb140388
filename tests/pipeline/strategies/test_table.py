"""pytest tests/pipeline/strategies/test_table.py - what all strategies have in common.

Shapes: N teacher layers, M student layers.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from pipeline.digests import digest_file
from pipeline.errors import CacheMismatchError, OutputExistsError, ParamsError
from pipeline.layers import MAPPED, UNMATCHED
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.strategies import STRATEGIES
from pipeline.student.recipe import settle
from stages.student import cli
from tests.pipeline.caching.test_build import build
from tests.pipeline.strategies.matched import batch_of, fit
from tests.support import tiny
from tests.support.pages import fenced
from tests.support.runs import strategy_for
from tests.support.tiny import STUDENT, World, save_encoder

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "methods.md"
NAMES = (*UNMATCHED, *STRATEGIES)
DEPTHS = ((4, 2), (4, 4), (12, 3), (24, 6), (12, 1))


def test_the_table_has_every_map() -> None:
    assert set(MAPPED) < set(STRATEGIES)
    assert len(NAMES) == 12


def test_every_strategy_is_in_the_help_and_the_document() -> None:
    text = " ".join(CliRunner().invoke(cli, ["fit", "--help"]).output.split())
    page = PAGE.read_text("utf-8")
    for name in NAMES:
        assert name in text
        assert f"`{name}`" in page, name


# building


def expected_layers(name: str, n: int, m: int) -> set[int]:
    """Of which layers a strategy may read."""
    if name in UNMATCHED:
        return set()
    if name == "contrastive":
        return set(range(1, n + 1, 2))
    return set(range(1, n)) if name in MAPPED else set(range(1, n + 1))


@pytest.mark.parametrize(("n", "m"), DEPTHS)
@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_is_built_for_every_depth(name: str, n: int, m: int) -> None:
    strategy = strategy_for(StudentParams(strategy=name, student_layers=m), teacher_layers=n)
    read = strategy.teacher_layers
    assert set(read) <= expected_layers(name, n, m)
    assert len(read) == m - 1 if name in MAPPED else set(read) == expected_layers(name, n, m)
    strategy.start_epoch(1)
    if not read:
        return
    batch = batch_of(strategy)
    loss = strategy(batch)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() >= 0
    strategy(batch).backward()
    assert batch.student_BMH.grad is not None
    assert batch.student_BMH.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_student_deeper_than_its_teacher(name: str) -> None:
    """Refused where layers are paired, no problem where all of them are compared."""
    params = StudentParams(strategy=name, student_layers=5)
    if name in MAPPED or name.startswith("rail"):
        with pytest.raises(ParamsError, match="lower --student-layers"):
            strategy_for(params)
    else:
        assert strategy_for(params)


@pytest.mark.parametrize(
    ("text", "m", "words"),
    [
        ("1,3", 3, None),
        ("1,3", 2, "expected 1 teacher layers"),
        ("2,4", 3, "taught by the logits"),
        ("1,x", 3, "Unknown strategy `1,x`"),
    ],
)
def test_a_list_of_layers(text: str, m: int, words: str | None) -> None:
    params = StudentParams(strategy=text, student_layers=m)
    if words is None:
        assert strategy_for(params).teacher_layers == (1, 3)
        return
    with pytest.raises(ParamsError, match=words):
        strategy_for(params)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("edm", "emd"), ("rail-conact", "rail-concat"), ("aplp", "alp"), ("fintune", "finetune"),
        ("contrast", "contrastive"), ("all_to_one", "all-to-one"), ("Skip", "skip"),
    ],
)  # fmt: skip
def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ParamsError, match=f"Unknown strategy `{wrong}`. Did you mean `{near}`?"):
        strategy_for(StudentParams(strategy=wrong))


def test_a_name_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(ParamsError, match=r"Expected finetune, kd, skip, .* as module:Class") as it:
        strategy_for(StudentParams(strategy="qqqq"))
    assert "Did you mean" not in str(it.value)
    assert all(name in str(it.value) for name in NAMES)


# precision


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNMATCHED])
def test_bfloat16_autocast_does_not_reach_a_strategy(name: str) -> None:
    """Vectors that nearly agree, as after training: their differences need float32."""
    params = StudentParams(strategy=name, student_layers=3, match_size=8)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        strategy = strategy_for(params, teacher_layers=12, hidden=64)
        batch = batch_of(strategy)
        teacher = 10 + 0.01 * batch.teacher_BLH
        near = batch._replace(student_BMH=teacher.mean(1, keepdim=True).expand(6, 3, 64))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            strategy(near._replace(teacher_BLH=teacher))
            losses.append(strategy(near._replace(teacher_BLH=teacher)))
    assert losses[0] == losses[1]
    assert losses[1].dtype == torch.float32


# one epoch of each


@pytest.mark.parametrize("name", [*NAMES, "3,1"])
def test_every_strategy_trains_on_a_cache_and_reads_only_its_layers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read: list[tuple[str, tuple[int, ...]]] = []
    original = TeacherCache.stored

    def spy(self: TeacherCache, split: str, layers: Any) -> Any:
        read.append((split, tuple(layers)))
        return original(self, split, layers)

    monkeypatch.setattr(TeacherCache, "stored", spy)
    record = fit(world, tmp_path / "s", strategy=name, student_layers=3, epochs=1)
    layers = tuple(record["teacher_layers_read"])
    assert read == ([] if name == "finetune" else [("train", layers)])
    assert set(layers) <= set(range(1, 5))
    terms = {"finetune": {"ce"}, "kd": {"ce", "kd"}}.get(name, {"ce", "kd", "pt"})
    losses = record["history"][0]["losses"]
    assert set(losses) == terms | {"total"}
    assert all(math.isfinite(value) and value > 0 for value in losses.values())


@pytest.mark.parametrize("name", ["emd", "rail", "rail-concat", "alp", "contrastive", "last"])
def test_a_cache_without_a_layer_is_refused_with_what_to_do(
    few: Path, world: World, name: str
) -> None:
    params = replace(STUDENT, strategy=name, student_layers=3, init=str(world.encoder))
    with pytest.raises(CacheMismatchError) as refused:
        settle(TeacherCache.open(few).manifest, params, str(few))
    needed, lacks = {"contrastive": ("1,3", "1,3"), "last": ("2,3", "3")}.get(
        name, ("1,2,3,4", "1,3")
    )
    expected = f"strategy {name} needs layers {needed}; the cache lacks {lacks}. Rebuild it with"
    assert f"{few}: {expected} `pkd-cache build --layers all`." in str(refused.value)


@pytest.fixture(scope="module")
def few(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(world, tmp_path_factory.mktemp("few") / "few.zarr", layers="2,4")


def test_the_layers_that_are_there_are_enough_for_others(
    few: Path, world: World, tmp_path: Path
) -> None:
    with pytest.raises(CacheMismatchError, match="strategy emd needs"):
        fit(world, tmp_path / "s", cache=few, strategy="emd")
    assert not (tmp_path / "s").exists()
    record = fit(world, tmp_path / "s", cache=few, epochs=1)
    assert record["teacher_layers_read"] == [2]


# another width


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.SHAPE, "hidden_size", 8)
        return save_encoder(tmp_path_factory.mktemp("narrow") / "narrow")


@pytest.mark.parametrize("name", NAMES)
def test_another_width_needs_project(world: World, narrow: Path, name: str) -> None:
    manifest = TeacherCache.open(world.cache).manifest
    params = replace(STUDENT, strategy=name, student_layers=2, init=str(narrow))
    if name in UNMATCHED:
        settle(manifest, params, "c")
    else:
        with pytest.raises(CacheMismatchError, match=r"is 8, the cached .* have 16 \(c\).*--proj"):
            settle(manifest, params, "c")
    strategy = settle(manifest, replace(params, project=True), "c").strategy
    if not strategy.teacher_layers:
        return
    batch = batch_of(strategy)
    strategy(batch)
    strategy(batch).backward()
    for tensor in (batch.student_BMH, *strategy.parameters()):
        assert tensor.grad is not None, "what a strategy learns has a gradient"
        assert tensor.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["skip", "emd", "rail", "contrastive"])
def test_a_narrower_student_trains(world: World, narrow: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "s"
    record = fit(world, out, strategy=name, init=str(narrow), project=True, epochs=1)
    assert set(record["history"][0]["losses"]) == {"ce", "kd", "pt", "total"}
    from safetensors.torch import load_file

    weights = load_file(out / "model.safetensors")
    assert weights["classifier.weight"].shape == (2, 8)
    assert all(key.startswith(("bert.", "classifier.")) for key in weights)


# a class of one's own

OWN = """
from pipeline.strategies.base import Strategy
import beside

class Deep(Strategy):
    def __init__(self, shapes, params):
        super().__init__(shapes, params)
        self.teacher_layers = (shapes.teacher_layers,)

    def forward(self, batch):
        import beside_too
        return (batch.student_BMH[:, -1] - batch.teacher_BLH[:, 0]).square().mean()

class Elsewhere(Deep):
    def __init__(self, shapes, params):
        super().__init__(shapes, params)
        self.teacher_layers = (1, 5)

class Other:
    pass

def function(shapes, params):
    return Deep(shapes, params)
"""


@pytest.fixture
def here(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is not on the import path, as for a console script."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "lacking.py").write_text("import no_such_module")
    for name in ("beside", "beside_too"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_a_class_in_the_working_directory(world: World, here: Path) -> None:
    record = fit(world, here / "s", strategy="own:Deep", epochs=1, beta=1.0)
    assert record["strategy"] == "own:Deep"
    assert record["teacher_layers_read"] == [4]
    assert set(record["history"][0]["losses"]) == {"ce", "kd", "pt", "total"}
    assert sys.path[-1] == str(here), "last, so that nothing installed is hidden"
    assert sys.path.count(str(here)) == 1


def test_an_edited_class_is_another_run(world: World, here: Path) -> None:
    record = fit(world, here / "s", strategy="own:Deep", epochs=1)
    assert record["identity"]["strategy_source"] == digest_file(here / "own.py")
    assert fit(world, here / "s", strategy="own:Deep", epochs=1)["existed"]
    (here / "own.py").write_text(OWN.replace(".mean()", ".sum()"))
    del sys.modules["own"]  # as in another process
    with pytest.raises(OutputExistsError, match=r'strategy_source: "[0-9a-f]+ there, "[0-9a-f]+'):
        fit(world, here / "s", strategy="own:Deep", epochs=1)
    assert "strategy_source" not in fit(world, here / "kd", strategy="kd", epochs=1)["identity"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own:Other", "own:Other: not a subclass of pipeline.strategies.base.Strategy"),
        ("own:function", "not a subclass"),
        ("own:Lost", "module 'own' has no attribute 'Lost'. Expected module:Class"),
        ("own:Elsewhere", r"its `teacher_layers` names layer 5; the teacher has layers 1\.\.4"),
        ("nowhere:Deep", "No module named 'nowhere'. Expected module:Class, importable from"),
        ("lacking:Deep", "No module named 'no_such_module'"),
        ("broken:Deep", "invalid syntax"),
        (":Deep", "Empty module name"),
        ("own:", "has no attribute ''"),
        (".own:Deep", "relative import"),
    ],
)
def test_a_class_that_is_none(here: Path, name: str, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        strategy_for(StudentParams(strategy=name))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def test_mistakes_on_the_command_line_are_one_message(world: World, few: Path, here: Path) -> None:
    base = ("fit", "--cache", world.cache, "--init", world.encoder, "--strategy")
    for name, text in (
        ("emdd", "Did you mean `emd`?"),
        ("own:Other", "not a subclass"),
        ("nowhere:Deep", "No module named 'nowhere'"),
    ):
        found = run(*base, name)
        assert found.exit_code == 1
        assert text in found.stderr
        assert "Traceback" not in found.output
    found = run("fit", "--cache", few, "--init", world.encoder, "--strategy", "emd")
    assert found.exit_code == 1
    assert "lacks 1,3. Rebuild it with `pkd-cache build --layers all`" in found.stderr


# the document


def page_blocks(language: str) -> list[str]:
    return [block.text for block in fenced(PAGE.read_text("utf-8"), language)]


@pytest.mark.slow
def test_the_strategy_of_the_document_runs_as_it_is_written(world: World, tmp_path: Path) -> None:
    """Its file, its command, through the console script itself."""
    (module,) = page_blocks("python")
    name = re.search(r"^# (\w+\.py)$", module, re.MULTILINE)
    assert name
    (tmp_path / name[1]).write_text(module)
    shutil.copytree(world.cache16, tmp_path / "data" / "demo.zarr")
    shutil.copytree(world.encoder, tmp_path / "data" / "base" / "demo")
    (tmp_path / "params.yaml").write_text("student: {epochs: 1, student_layers: 2}\n")
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "PATH": f"{scripts}:{os.environ['PATH']}",
    }  # fmt: skip
    environment.pop("PYTHONPATH", None)
    script = "".join(page_blocks("sh"))
    assert "pkd-student fit" in script
    found = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr[-3000:]
    (student,) = (tmp_path / "data" / "students").glob("[!.]*")
    assert (student / "model.safetensors").is_file()
    assert "pt " in found.stderr
