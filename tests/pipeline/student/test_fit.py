"""pytest tests/pipeline/student/test_fit.py"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from pipeline.errors import (
    CacheCorruptError,
    CacheMismatchError,
    ModelError,
    OutputExistsError,
    ParamsError,
    TrainingError,
)
from pipeline.layers import UNMATCHED
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.strategies import AUTO, STRATEGIES
from pipeline.student.fit import fit_student
from pipeline.student.recipe import default_folder
from pipeline.student.score import score_student
from pipeline.student.targets import load_targets
from pipeline.tasks import BUILT_IN
from tests.pipeline.caching.test_build import build
from tests.support.tiny import STUDENT, World, save_encoder

ROOT = Path(__file__).parents[3]


def fit(world: World, out: Path, *, resume: bool = False, overwrite: bool = False,
        cache: Path | None = None, **changes: Any) -> dict[str, Any]:  # fmt: skip
    params = replace(STUDENT, **({"init": str(world.encoder)} | changes))
    _, record = fit_student(
        cache_path=cache or world.cache16, out=out, params=params, sources={},
        resume=resume, overwrite=overwrite,
    )  # fmt: skip
    return record


@pytest.fixture(scope="module")
def student(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("students") / "rte-skip-2-s0"
    fit(world, out)
    return out


@pytest.mark.parametrize("strategy", ["finetune", "kd", "skip", "last", "1,3"])
def test_each_strategy_learns_with_its_own_terms(
    world: World, tmp_path: Path, strategy: str
) -> None:
    record = fit(
        world, tmp_path / "s", strategy=strategy, student_layers=3, epochs=6, learning_rate=5e-3
    )
    terms = {"finetune": {"ce"}, "kd": {"ce", "kd"}}.get(strategy, {"ce", "kd", "pt"})
    first, last = record["history"][0]["losses"], record["history"][-1]["losses"]
    assert set(first) == terms | {"total"}
    assert last["total"] < first["total"]
    if "pt" in terms:
        assert last["pt"] < first["pt"]
    maps = {"skip": [[1, 1], [2, 3]], "last": [[1, 2], [2, 3]], "1,3": [[1, 1], [2, 3]]}
    assert record["layer_map"] == maps.get(strategy, [])


def test_one_layer_has_no_patient_term(world: World, tmp_path: Path) -> None:
    record = fit(world, tmp_path / "s", strategy="skip", student_layers=1, epochs=1)
    assert set(record["history"][0]["losses"]) == {"ce", "kd", "total"}


def test_the_student_is_a_plain_hugging_face_folder(world: World, student: Path) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(student))
    answer = classify({"text": "w1 sun w2", "text_pair": "w3"})
    label = answer["label"] if isinstance(answer, dict) else answer[0]["label"]
    assert label in ("entailment", "not_entailment")
    record = json.loads((student / "run.json").read_text())
    assert record["params"]["init"] == "encoder"
    assert record["cache"]["cache_id"] == TeacherCache.open(world.cache16).manifest.cache_id
    card = (student / "README.md").read_text()
    for text in ("rte-skip-2-s0", record["cache"]["cache_id"][:16], "1 <- 2", "| temperature | 10",
                 f"{record['scores']['validation']['accuracy']:.4f}"):  # fmt: skip
        assert text in card
    assert str(world.root) not in card + (student / "run.json").read_text()
    assert sorted(path.name for path in student.iterdir()) == [
        "README.md", "config.json", "dvclive", "model.safetensors", "run.json",
        "tokenizer.json", "tokenizer_config.json", "validation-logits.parquet",
    ]  # fmt: skip


def test_a_student_keeps_its_validation_logits(world: World, student: Path, tmp_path: Path) -> None:
    score_student(student, world.cache16, None, tmp_path / "logits.parquet", "cpu")
    kept, again = (
        pq.read_table(path).to_pydict()
        for path in (student / "validation-logits.parquet", tmp_path / "logits.parquet")
    )
    ids = TeacherCache.open(world.cache16).examples("validation")["example_id"].to_pylist()
    assert kept["example_id"] == again["example_id"] == ids
    assert kept["split"] == again["split"] == ["validation"] * 37
    np.testing.assert_allclose(kept["logits"], again["logits"], atol=2e-6)


def test_a_teammate_can_read_every_file(student: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in student.rglob("*") if path.is_file()}
    assert modes == {student.stat().st_mode & 0o666}


def test_eval_gives_the_logits_of_plain_transformers(
    world: World, student: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    scores = score_student(student, world.cache16, None, tmp_path / "logits.parquet", "cpu")
    record = json.loads((student / "run.json").read_text())
    assert scores == record["scores"]
    table = pq.read_table(tmp_path / "logits.parquet")
    model = AutoModelForSequenceClassification.from_pretrained(student).eval()
    tokenizer = AutoTokenizer.from_pretrained(student)
    source = world.prepared.table("validation")
    for row in range(0, 37, 5):
        texts = source["sentence1"][row].as_py(), source["sentence2"][row].as_py()
        with torch.inference_mode():
            inputs = tokenizer(*texts, truncation=True, max_length=24, return_tensors="pt")
            expected = model(**inputs).logits[0].numpy()
        np.testing.assert_allclose(table["logits"][row].as_py(), expected, atol=2e-6)
        assert table["example_id"][row].as_py() == source["example_id"][row].as_py()


def test_figures_are_logged_by_step(student: Path) -> None:
    metrics = student / "dvclive" / "plots" / "metrics"
    names = {path.relative_to(metrics).as_posix() for path in metrics.rglob("*.tsv")}
    assert names >= {
        "train/loss/ce.tsv", "train/loss/kd.tsv", "train/loss/pt.tsv", "train/loss/total.tsv",
        "train/share/ce.tsv", "train/share/pt.tsv", "train/learning_rate.tsv",
        "train/rows_per_second.tsv", "eval/validation/accuracy.tsv",
    }  # fmt: skip
    rows = (metrics / "train" / "share" / "ce.tsv").read_text().splitlines()
    steps = [int(row.split("\t")[0]) for row in rows[1:]]
    assert steps[:2] == [1, 10]
    assert steps == sorted(steps)


def test_one_command_trains_every_method_and_needs_nothing_of_the_teacher(
    world: World, tmp_path: Path
) -> None:
    """The teacher and the data are gone; a process with only the cache and the init trains."""
    names = [*UNMATCHED, *STRATEGIES, AUTO, "3"]
    shutil.copytree(world.cache16, tmp_path / "rte.zarr")
    shutil.copytree(world.encoder, tmp_path / "enc")
    code = (
        "import sys; from pathlib import Path; from stages.student import cli\n"
        "cli(['sweep', '--cache', 'rte.zarr', '--init', 'enc', '--epochs', '1',"
        f" '--student-layers', '2', '--workers', '1', '--set', 'strategy={';'.join(names)}'],"
        " standalone_mode=False)\n"
        "rooms = ('pipeline.teacher', 'pipeline.caching')\n"
        "loaded = [name for name in sys.modules if name.startswith(rooms)]\n"
        "assert not loaded, loaded"
    )
    hidden = world.teacher.with_name("gone")
    world.teacher.rename(hidden)
    try:
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True,
            env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin",
                 "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"},
        )  # fmt: skip
    finally:
        hidden.rename(world.teacher)
    students = {path.parent.name for path in tmp_path.glob("data/students/*/model.safetensors")}
    assert students == {f"rte-{name}-2-s0" for name in names}


def test_the_same_again_does_nothing_and_another_is_refused(world: World, student: Path) -> None:
    before = (student / "model.safetensors").stat().st_mtime_ns
    assert fit(world, student)["existed"]
    with pytest.raises(OutputExistsError, match=r"beta: 100\.0 there, 7\.0 now"):
        fit(world, student, beta=7.0)
    assert (student / "model.safetensors").stat().st_mtime_ns == before


def test_overwrite_replaces_and_seed_decides(world: World, tmp_path: Path) -> None:
    one = fit(world, tmp_path / "s")
    fit(world, tmp_path / "same")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("s", "same")]
    assert weights[0] == weights[1]
    other = fit(world, tmp_path / "s", seed=1, overwrite=True)
    assert (tmp_path / "s" / "model.safetensors").read_bytes() != weights[0]
    assert one["identity"] != other["identity"]
    assert not list(tmp_path.glob(".s.partial"))


def test_a_folder_that_is_no_student_is_never_replaced(world: World, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(OutputExistsError, match="will not replace it"):
        fit(world, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_a_student_whose_weights_are_gone_is_trained_again(
    world: World, student: Path, tmp_path: Path
) -> None:
    shutil.copytree(student, tmp_path / student.name)
    weights = tmp_path / student.name / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    fit(world, tmp_path / student.name)
    assert weights.read_bytes() == before


def test_a_resumed_log_has_every_step_once(world: World, tmp_path: Path) -> None:
    def stop(entry: Any) -> None:
        if entry.step > 21:
            raise KeyboardInterrupt

    params = replace(STUDENT, init=str(world.encoder), epochs=4)
    with pytest.raises(KeyboardInterrupt):
        fit_student(
            cache_path=world.cache16, out=tmp_path / "s", params=params, sources={}, on_step=stop
        )
    fit(world, tmp_path / "s", epochs=4, resume=True)
    log = tmp_path / "s" / "dvclive" / "plots" / "metrics" / "train" / "loss" / "total.tsv"
    steps = [int(row.split("\t")[0]) for row in log.read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))


def test_an_interrupted_run_leaves_no_student_and_resumes(world: World, tmp_path: Path) -> None:
    fit(world, tmp_path / "whole", epochs=3)

    def stop(entry: Any) -> None:
        if entry.step > 15:
            raise KeyboardInterrupt

    params = replace(STUDENT, init=str(world.encoder), epochs=3)
    with pytest.raises(KeyboardInterrupt):
        fit_student(
            cache_path=world.cache16, out=tmp_path / "cut", params=params, sources={}, on_step=stop
        )
    assert not (tmp_path / "cut").exists()
    record = fit(world, tmp_path / "cut", epochs=3, resume=True)
    assert [each["epoch"] for each in record["history"]] == [1, 2, 3]
    whole, cut = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_a_checkpoint_of_other_parameters_is_not_continued(world: World, tmp_path: Path) -> None:
    def stop(entry: Any) -> None:
        if entry.step > 15:
            raise KeyboardInterrupt

    params = replace(STUDENT, init=str(world.encoder), epochs=3, beta=1.0)
    with pytest.raises(KeyboardInterrupt):
        fit_student(
            cache_path=world.cache16, out=tmp_path / "s", params=params, sources={}, on_step=stop
        )
    fit(world, tmp_path / "s", epochs=3, resume=True)
    fit(world, tmp_path / "fresh", epochs=3)
    one, other = (tmp_path / name / "model.safetensors" for name in ("s", "fresh"))
    assert one.read_bytes() == other.read_bytes()


def test_what_does_not_fit_is_refused_before_training(world: World, tmp_path: Path) -> None:
    out = tmp_path / "s"
    with pytest.raises(ParamsError, match=r"local folder named `encoder`\): pass --init MODEL"):
        fit(world, out, init=None)
    with pytest.raises(ModelError, match="has 4 layers, fewer than the 5 asked for"):
        fit(world, out, strategy="kd", student_layers=5)
    with pytest.raises(
        ParamsError, match=r"layer 9 cannot be matched; the teacher has layers 1\.\.4"
    ):
        fit(world, out, strategy="9", student_layers=2)
    assert not out.exists()
    assert not list(tmp_path.glob(".s.partial"))


def test_a_cache_that_lacks_a_layer(world: World, tmp_path: Path) -> None:
    cache = build(world, tmp_path / "few.zarr", layers="1,4")
    with pytest.raises(CacheMismatchError, match="needs layers 2; the cache lacks 2.*--layers all"):
        fit(world, tmp_path / "s", cache=cache)
    assert fit(world, tmp_path / "s", cache=cache, strategy="1")["layer_map"] == [[1, 1]]


def test_another_width_can_do_kd_but_not_skip(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support import tiny

    monkeypatch.setitem(tiny.SHAPE, "hidden_size", 24)
    wide = str(save_encoder(tmp_path / "wide"))
    with pytest.raises(CacheMismatchError, match="hidden size is 24, the cached .* have 16"):
        fit(world, tmp_path / "s", init=wide)
    assert fit(world, tmp_path / "s", init=wide, strategy="kd", epochs=1)["scores"]


def test_another_vocabulary_is_refused(world: World, tmp_path: Path) -> None:
    other = str(save_encoder(tmp_path / "other", "roberta"))
    with pytest.raises(CacheMismatchError, match="is not the one of the cached tokens"):
        fit(world, tmp_path / "s", init=other)


def test_rows_longer_than_the_student_reads_are_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support import tiny

    monkeypatch.setitem(tiny.SHAPE, "max_position_embeddings", 12)
    short = str(save_encoder(tmp_path / "short"))
    with pytest.raises(CacheMismatchError, match=r"train: has rows of 2\d tokens; .* at most 12\."):
        fit(world, tmp_path / "s", init=short)
    assert not (tmp_path / "s").exists()
    assert not list(tmp_path.glob(".s.partial"))


def test_an_infinite_loss_ends_the_run(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is not finite"):
        fit(world, tmp_path / "s", learning_rate=1e30, max_grad_norm=0.0)
    assert not (tmp_path / "s").exists()


def test_a_student_is_scored_on_its_own_task_alone(
    world: World, student: Path, tmp_path: Path
) -> None:
    shutil.copytree(student, tmp_path / "other")
    save_encoder(tmp_path / "enc", "roberta")
    shutil.copy(tmp_path / "enc" / "tokenizer.json", tmp_path / "other")
    shutil.copy(tmp_path / "enc" / "tokenizer_config.json", tmp_path / "other")
    with pytest.raises(CacheMismatchError, match="is not the one of the cached tokens"):
        score_student(tmp_path / "other", world.cache16, None, None, "cpu")
    config = json.loads((student / "config.json").read_text())
    config["id2label"] = {"0": "not_entailment", "1": "entailment"}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CacheMismatchError, match="its outputs are not_entailment, entailment"):
        score_student(tmp_path / "other", world.cache16, None, None, "cpu")


def test_a_student_is_not_scored_on_rows_that_it_cannot_read(
    world: World, student: Path, tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(student)
    positions = model.bert.embeddings.position_embeddings
    positions.weight = torch.nn.Parameter(positions.weight[:12].detach().clone())
    model.config.max_position_embeddings = 12
    model.save_pretrained(tmp_path / "short")
    with pytest.raises(CacheMismatchError, match=r"validation: has rows of .* at most 12\."):
        score_student(tmp_path / "short", world.cache16, None, None, "cpu")


def test_only_the_needed_layers_are_read(world: World, tmp_path: Path) -> None:
    read: list[tuple[int, ...]] = []
    original = TeacherCache.stored

    def spy(self: TeacherCache, split: str, layers: Any) -> Any:
        read.append(tuple(layers))
        return original(self, split, layers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TeacherCache, "stored", spy)
        fit(world, tmp_path / "skip", epochs=1)
        fit(world, tmp_path / "finetune", strategy="finetune", epochs=1)
    assert read == [(2,)]


def test_int8_targets_are_what_the_cache_decodes_to(world: World, tmp_path: Path) -> None:
    """They stay int8 in memory; a batch of them is decoded as it is gathered."""
    cache = TeacherCache.open(build(world, tmp_path / "c.zarr", dtype="int8"))
    targets = load_targets(cache, "train", (2, 4), torch.device("cpu"))
    assert targets.cls_NLH.dtype == torch.int8
    rows_B = torch.tensor([149, 3, 3, 77])
    logits_BK, cls_BLH = targets(rows_B, {})
    assert torch.equal(cls_BLH, torch.from_numpy(cache.cls("train", (2, 4)))[rows_B])
    assert torch.equal(logits_BK, torch.from_numpy(cache.logits("train"))[rows_B])


def test_default_folder() -> None:
    params = StudentParams(strategy="2,4", student_layers=3, seed=7)
    assert default_folder(BUILT_IN["rte"], params) == Path("data/students/rte-2_4-3-s7")


def test_a_cache_that_lacks_a_file_is_refused_even_where_it_is_not_read(
    world: World, tmp_path: Path
) -> None:
    """`finetune` reads no vectors, and nobody reads the test rows here."""
    shutil.copytree(world.cache16, tmp_path / "c.zarr")
    lost = tmp_path / "c.zarr" / "test" / "cls" / "c" / "0" / "0" / "0"
    whole = lost.read_bytes()
    lost.unlink()
    arguments = {
        "cache_path": tmp_path / "c.zarr", "out": tmp_path / "s", "sources": {},
        "params": replace(STUDENT, init=str(world.encoder), strategy="finetune"),
    }  # fmt: skip
    with pytest.raises(CacheCorruptError, match=r"test/cls/c/0/0/0: missing; run `pkd-cache ver"):
        fit_student(**arguments)  # type: ignore[arg-type]
    lost.write_bytes(whole[:-1])
    with pytest.raises(CacheCorruptError, match=r"test/cls/c/0/0/0: \d+ bytes of \d+"):
        fit_student(**arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()
