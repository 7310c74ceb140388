"""pytest tests/pipeline/bench/test_bench_run.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import machine
from pipeline.bench.contenders import exported as contenders_of
from pipeline.bench.contenders import in_pytorch
from pipeline.bench.measure import measure, summary
from pipeline.bench.run import BenchParams, run_bench, threads
from pipeline.bench.table import paper_table, speed_up
from pipeline.errors import ModelError, ParamsError
from pipeline.models.load import load_classifier
from tests.support.exports import Exported, save_student
from tests.support.tiny import World

CPU = torch.device("cpu")
FAST = BenchParams(batch_sizes=(1, 3), lengths=(4, 9), seconds=0.0, threads=1)


@pytest.fixture(scope="module")
def made(world: World, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench of a teacher, a student and both files of its export."""
    folder = tmp_path_factory.mktemp("metrics")
    run_bench(
        students=[exported.student], teacher=str(world.teacher), exports=[exported.folder],
        name="tiny", folder=folder, params=FAST,
    )  # fmt: skip
    return folder


def test_the_record_has_every_shape_of_every_contender(made: Path, exported: Exported) -> None:
    record = json.loads((made / "bench-tiny.json").read_text())
    names = ["rte (teacher)", "bert", "bert-onnx, ONNX", "bert-onnx, ONNX int8"]
    assert [each["name"] for each in record["contenders"]] == names
    seen = [(t["name"], t["batch_size"], t["length"]) for t in record["timings"]]
    assert sorted(seen) == sorted((n, b, s) for n in names for b in (1, 3) for s in (4, 9))
    for each in record["timings"]:
        assert 0 < each["p50_ms"] <= each["p95_ms"]
        assert each["rows_per_second"] > 0
        assert each["calls"] == 10
    digests = [each["digest"] for each in record["contenders"]]
    assert digests[1] == digests[2] == digests[3] == exported.record["student"]["digest"]
    assert (
        record["contenders"][3]["size_bytes"]
        == (exported.folder / "model_int8.onnx").stat().st_size
    )
    scores = [each["scores"] for each in record["contenders"]]
    measured = [exported.record["files"][kind]["scores"] for kind in ("float32", "int8")]
    assert scores == [{}, {}, *measured]
    assert measured[1]["validation"]
    where = record["machine"]
    assert (where["processor"], where["threads"]) == (machine.processor(), 1)
    assert set(where) >= {"cores", "load_before", "load_after", "versions", "system"}
    assert "onnxruntime" in where["versions"]


def test_what_runs_is_the_model_itself(exported: Exported) -> None:
    """The bound work of every runtime gives the logits of the same batch."""
    found = [in_pytorch(str(exported.student), "student", CPU)]
    found += contenders_of(exported.folder, 1)
    with torch.inference_mode():
        logits = [
            np.asarray(getattr(each.work(3, 9)(), "logits", None))
            if each.runtime == "pytorch"
            else np.asarray(each.work(3, 9)())
            for each in found
        ]
    assert [each.shape for each in logits] == [(3, 2)] * 3
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)
    assert len(np.unique(logits[0])) == 6  # rows that differ


def test_contenders_are_warmed_up_and_take_turns(exported: Exported) -> None:
    calls: list[str] = []

    class Spy:
        device = CPU

        def __init__(self, name: str) -> None:
            self.name = name

        def work(self, batch_size: int, length: int) -> Any:
            return lambda: calls.append(f"{self.name}{batch_size}x{length}")

    timings = measure([Spy("A"), Spy("B")], [2], [5, 7], 0.0)  # type: ignore[list-item]
    one = ["A2x5"] * 3 + ["B2x5"] * 3 + ["A2x5", "B2x5"] * 10
    assert calls == one + [each.replace("x5", "x7") for each in one]
    assert [(t.name, t.length, t.calls) for t in timings] == [
        ("A", 5, 10), ("B", 5, 10), ("A", 7, 10), ("B", 7, 10),
    ]  # fmt: skip


def test_percentiles_and_throughput_by_hand() -> None:
    seconds = [0.001 * n for n in range(1, 22)]  # 1 to 21 ms
    found = summary("x", 4, 8, seconds)
    assert found.p50_ms == pytest.approx(11)
    assert found.p95_ms == pytest.approx(20)  # the 20th of 21
    assert found.rows_per_second == pytest.approx(4 * 21 / 0.231)


def made_up_record() -> dict[str, Any]:
    def contender(name: str, role: str, layers: int, passes: int) -> dict[str, Any]:
        sizes = {"layers": layers, "passes": passes, "embeddings": 10**6, "head": 10**5}
        blocks = layers * 10**6
        return {
            "name": name, "role": role, "parameters": 1_100_000 + blocks, "size_bytes": 5_000_000,
            "sizes": sizes | {"blocks": blocks},
        }  # fmt: skip

    def timing(name: str, batch: int, length: int, p50: float) -> dict[str, Any]:
        return {"name": name, "batch_size": batch, "length": length, "p50_ms": p50}

    return {
        "name": "n",
        "batch_sizes": [1, 10],
        "lengths": [8, 16],
        "machine": {
            "processor": "P", "cores": 4, "threads": 1, "versions": {"torch": "2"},
            "load_before": 0.5, "load_after": None,
        },
        "contenders": [contender("T", "teacher", 12, 12), contender("S", "student", 3, 6)],
        "timings": [
            timing(name, batch, length, scale * batch * length)
            for name, scale in (("T", 1.0), ("S", 0.25))
            for batch in (1, 10)
            for length in (8, 16)
        ],
    }  # fmt: skip


def test_table_4_by_hand() -> None:
    table = paper_table(made_up_record()).replace("\N{NO-BREAK SPACE}", " ")
    assert "| 1,000 rows, batch 10 | one call, batch 1 |" in table
    assert "| T | 12 | 1.00 M | 12.0 M | 13.1 M | 5.00 MB | 16.00 s | 16.00 ms |" in table
    row = "| S | 3 (6 passes) | 1.00 M | 3.00 M | 4.10 M (3.20×) | 5.00 MB | 4.00 s (4.00×) |"
    assert row in table
    assert "Rows of 16 tokens" in table
    assert "P, 4 cores, 1 thread a call;\nload before and after: 0.5 and -. torch 2." in table


def test_without_a_teacher_there_are_no_speed_ups() -> None:
    record = made_up_record()
    record["contenders"][0]["role"] = "student"
    assert speed_up(record, record["timings"][4]) is None
    assert "×" not in paper_table(record)


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1) as count:
        assert count == torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with threads(None) as count:
        assert count == before


def of_length(tokens: int) -> BenchParams:
    return BenchParams(batch_sizes=(1,), lengths=(tokens,), seconds=0.0)


def test_what_cannot_be_measured(world: World, exported: Exported, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "students": [exported.student], "teacher": None, "exports": [], "name": "n",
        "folder": tmp_path, "params": FAST,
    }  # fmt: skip
    roberta = save_student(tmp_path / "roberta", "roberta")
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"params": of_length(65)}, ParamsError, "--lengths 65: bert reads at most 64 tokens"),
        ({"params": of_length(66), "students": [roberta]}, ParamsError, "at most 65 tokens"),
        ({"students": [exported.student] * 2}, ParamsError, "bert: given twice"),
        ({"name": "a/b"}, ParamsError, "--name a/b"),
        ({"exports": [exported.student]}, ModelError, "not an export"),
        ({"teacher": str(world.encoder)}, ModelError, "not a fine-tuned classifier"),
    ]
    for more, kind, text in cases:
        with pytest.raises(kind, match=text):
            run_bench(**(given | more))
    assert not list(tmp_path.glob("bench-*"))


def test_parameters_are_those_of_the_model(made: Path, world: World) -> None:
    record = json.loads((made / "bench-tiny.json").read_text())
    own = sum(p.numel() for p in load_classifier(str(world.teacher)).parameters())
    assert record["contenders"][0]["parameters"] == own


def test_lengths_that_nobody_chose_are_shortened_to_what_a_model_reads(
    exported: Exported, tmp_path: Path
) -> None:
    """The student reads 64 tokens."""
    params = BenchParams(batch_sizes=(1,), seconds=0.0, threads=1)
    record = run_bench(
        students=[exported.student], teacher=None, exports=[], name="b", folder=tmp_path,
        params=params,
    )  # fmt: skip
    assert record["lengths"] == [32, 64]
