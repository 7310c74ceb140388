"""pytest tests/benchmarks/test_suite.py - the parts of the suite, on tiny models and by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.arithmetic import measure_arithmetic, operations_of_steps
from benchmarks.build import LOADED, measure_build, measure_loading
from benchmarks.contenders import WAYS, Ring, spread_lengths
from benchmarks.first_step import measure_first_step, seconds_until
from benchmarks.lengths import GLUE, all_lengths, histogram, rows_of
from benchmarks.padding import padded_share, padding_of, stage_one
from benchmarks.page import BUILD_PIECES, BUILDS, FIRST_STEPS
from benchmarks.parts import PARTS, usual_parts
from benchmarks.repeated import measure_build_pieces, measure_floor
from benchmarks.setting import Setting
from benchmarks.shapes import Shape
from benchmarks.startup import INFO, measure_startup
from benchmarks.steps import LARGE_WAYS
from benchmarks.turns import Loop, in_turn, step_clock
from pipeline.batches import training_batches

ROOT = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")
QUICK = Setting(device=CPU, quick=True)
# what a machine with a GPU may lack; the steps must run without them
LACKING = ("zarr", "datasets", "dvc", "dvclive", "optuna", "ot", "textbrewer")
RUN = f"""
import sys
sys.modules.update(dict.fromkeys({LACKING!r}))  # None: an import is a ModuleNotFoundError
from benchmarks.__main__ import main
main()
"""


def test_the_sweep_runs_on_a_processor_only_when_it_is_named() -> None:
    assert usual_parts(QUICK) == usual_parts(Setting(device=torch.device("cuda"))) == list(PARTS)
    assert set(PARTS) - set(usual_parts(Setting(device=CPU))) == {"sweep"}


def test_loops_take_one_step_each_in_turn() -> None:
    order: list[str] = []

    def loop(name: str) -> Callable[[Callable[[], None]], None]:
        def steps(wait: Callable[[], None]) -> None:
            for number in range(9):
                wait()
                order.append(f"{name}{number}")

        return steps

    seconds = in_turn({"a": loop("a"), "b": loop("b")}, rounds=2, warm_up=1, device=CPU)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}


def test_other_load_does_not_count_where_one_thread_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    loops = {"sleeps": repeat(lambda: time.sleep(0.2)), "works": repeat(lambda: spin(0.2))}
    seconds = in_turn(loops, 1, 0, CPU, step_clock(CPU))
    assert seconds["sleeps"][0] < 0.1 <= seconds["works"][0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert step_clock(CPU) is time.perf_counter


def repeat(work: Callable[[], object]) -> Loop:
    def loop(wait: Callable[[], None]) -> None:
        while True:
            wait()
            work()

    return loop


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_loop_that_fails_or_ends_early_is_told() -> None:
    def fails(wait: Callable[[], None]) -> None:
        wait()
        raise KeyError("within")

    with pytest.raises(KeyError, match="within"):
        in_turn({"a": fails}, rounds=2, warm_up=0, device=CPU)
    with pytest.raises(AssertionError, match="fewer steps"):
        in_turn({"a": lambda wait: wait()}, rounds=2, warm_up=0, device=CPU)


def test_lengths_are_of_as_many_rows_as_the_tasks_have() -> None:
    rows = {"rte": 2490, "mrpc": 3668, "sst2": 67349, "cola": 8551}
    means = {"rte": 66.6, "mrpc": 53.2, "sst2": 13.3, "cola": 11.3}
    assert set(GLUE) == set(rows)
    for task, count in rows.items():
        lengths = all_lengths(task)
        assert len(lengths) == count
        assert Counter(lengths.tolist()) == Counter(histogram(task))
        assert float(lengths.float().mean()) == pytest.approx(means[task], abs=0.05)
        assert 3 <= int(lengths.min()) < int(lengths.max()) <= 128


def test_the_batches_of_a_case_are_batches_of_an_epoch() -> None:
    lengths = all_lengths("rte")
    epoch = training_batches(lengths, 16, seed=0, epoch=1)
    whole = Counter(tuple(sorted(lengths[batch].tolist())) for batch in epoch)
    chosen = spread_lengths(lengths, 16, 6)
    again = training_batches(chosen, 16, seed=0, epoch=1)
    found = Counter(tuple(sorted(chosen[batch].tolist())) for batch in again)
    assert len(again) == 6
    assert found <= whole
    mean = float(lengths.float().mean())
    assert float(chosen.float().mean()) == pytest.approx(mean, rel=0.1)


def test_padded_share_by_counting_the_mask() -> None:
    assert padded_share([[2, 4], [5]]) == pytest.approx(2 / 13)
    lengths = all_lengths("cola")[:200]
    rows = rows_of(lengths, 100)
    masks = [
        rows.batch(batch, int(lengths[batch].max()))["attention_mask"]
        for epoch in (1, 2, 3)
        for batch in training_batches(lengths, 32, 0, epoch)
    ]
    zeros = sum(int((mask == 0).sum()) for mask in masks)
    share = zeros / sum(mask.numel() for mask in masks)
    assert padding_of(lengths)["stage_two"] == pytest.approx(share, abs=1e-12)
    assert padding_of(lengths)["padded_to_128"] == pytest.approx(
        1 - int(lengths.sum()) / (200 * 128)
    )


def test_stage_one_keeps_to_its_budget_and_to_shards() -> None:
    lengths = all_lengths("cola")
    batches = list(stage_one(lengths, 1024))
    assert all(len(batch) * max(batch) <= 1024 for batch in batches)
    assert Counter(length for batch in batches for length in batch) == Counter(lengths.tolist())
    first = [length for batch in batches for length in batch][:4096]
    assert Counter(first) == Counter(lengths[:4096].tolist())


def test_the_steps_need_no_library_of_the_cache(tmp_path: Path) -> None:
    out = tmp_path / "q.json"
    words = ["--device", "cpu", "--quick", "--only", "steps", "shares", "padding", "build"]
    subprocess.run(
        [sys.executable, "-c", RUN, *words, "--out", str(out)], check=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    result = json.loads(out.read_text("utf-8"))
    parts = result["parts"]
    assert set(result["machine"]) >= {"processor", "cores", "threads", "torch", "transformers"}
    assert len(result["load"]["before"]) == len(result["load"]["after"]) == 3
    assert parts["build"]["missing"].endswith("is not installed")
    base, large = parts["steps"]["found"]
    assert set(base["contenders"]) == set(WAYS) - {"cache-skip-float32"}  # as the run itself
    assert set(large["contenders"]) == set(LARGE_WAYS)
    for name, measured in (base["contenders"] | large["contenders"]).items():
        if "textbrewer" in name:
            assert measured == {"missing": "textbrewer is not installed"}
        else:
            assert measured["count"] == 3
            assert 0 < measured["q1"] <= measured["median"] <= measured["q3"] < measured["sum"]
    for each in parts["shares"]["found"]:
        shares = dict(each["shares"])
        assert shares.pop("teacher forward") > 0
        assert sum(shares.values()) == pytest.approx(1)
        assert {"clipping", "optimizer", "backward", "embeddings"} < set(shares)
    assert parts["padding"]["found"][0]["task"] == "rte"


def test_operations_are_those_of_the_formula(tmp_path: Path) -> None:
    """24 H^2 a token and block, thrice with the backward pass; at [CLS] 4 H^2, and 20 H^2 a row."""
    shape = Shape(name="small", layers=3, hidden=256, heads=4, vocabulary=50)
    ring = Ring(
        task="rte", lengths_N=torch.tensor([6, 6, 6, 6, 4, 4, 4, 4]), teacher=shape, student=shape,
        batch_size=4, device=torch.device("cpu"), precision="float32", state=tmp_path,
    )  # fmt: skip
    for way, a_token, a_row in (("finetune", 3 * 24, 0), ("finetune-cls", 2 * 24 + 4, 20)):
        found = operations_of_steps(ring, WAYS[way], 2)
        expected = [3 * 256**2 * (tokens * a_token + 4 * a_row) for tokens in (16, 24)]
        assert sorted(found) == pytest.approx(expected, rel=0.02)


def test_the_shares_of_the_peak_are_measured() -> None:
    found = measure_arithmetic(QUICK)
    assert [each["layers"] for each in found["stage_two"]] == [3, 6]
    for each in (found["stage_one"], *found["stage_two"]):
        assert 0 < each["rate"] < found["peak"]


def test_textbrewer_trains_on_the_same_batches() -> None:
    pytest.importorskip("textbrewer")
    from benchmarks.shapes import TINY
    from benchmarks.steps import Case, measure_case

    case = Case(task="cola", teacher=TINY, student_layers=3, batch_size=4, rounds=2, warm_up=1,
                ways=("cache-skip", "textbrewer", "textbrewer-random"))  # fmt: skip
    found = measure_case(case, QUICK)["contenders"]
    assert [each["count"] for each in found.values()] == [2, 2, 2]


def test_a_build_and_a_load_are_measured() -> None:
    built = measure_build(QUICK)
    assert set(built["contenders"]) == set(BUILDS)
    assert built["rows"] == {"train": 40, "dev": 20}
    assert set(built["tokens"]) == {"train", "validation"}
    loaded = measure_loading(QUICK)["contenders"]
    sizes = {name: each["bytes"] for name, each in loaded.items()}
    assert sizes == {name: 50 * 16 * 2 * len(layers) for name, layers in LOADED.items()}


def test_start_up_is_measured_of_installed_commands() -> None:
    found = measure_startup(QUICK)["contenders"]
    assert {"pkd-data --help", "pkd-data prepare --help", INFO} <= set(found)
    assert all(each["processor"] > 0 for each in found.values())


def test_what_scatters_is_measured_with_models_made_anew() -> None:
    sittings = measure_floor(QUICK)["sittings"]
    assert [[len(steps) for steps in each.values()] for each in sittings] == [[2, 2], [2, 2]]
    assert sittings[0] != sittings[1]


def test_the_pieces_of_a_build_are_all_of_it() -> None:
    found = measure_build_pieces(QUICK)
    assert set(found["pieces"]) == set(BUILD_PIECES)
    assert all(seconds > 0 for seconds in found["pieces"].values())
    assert sum(found["pieces"].values()) == pytest.approx(found["total"])
    assert found["pieces"]["pass"] > found["pieces"]["encode"]


def test_the_first_step_is_waited_for(tmp_path: Path) -> None:
    found = measure_first_step(QUICK)["contenders"]
    assert set(found) == set(FIRST_STEPS)
    assert all(each["median"] > 0.5 for each in found.values())  # an import of torch alone
    with pytest.raises(RuntimeError, match="no first step\nit broke"):
        seconds_until(["python", "-c", "exit('it broke')"], tmp_path, lambda: False)


@pytest.mark.soak_only
def test_peak_memory_is_of_the_process_alone() -> None:
    from benchmarks.memory import CONTENDERS, measure_memory

    ballast = torch.ones(2**28)  # 1 GB in this process; a child's peak is less
    found = measure_memory(QUICK)["contenders"]
    assert set(found) == set(CONTENDERS)
    assert all(10**8 < each["peak"] < 10**9 for each in found.values())
    assert found["cache-skip"]["cached"] == 2490 * (2 * 2 * 16 + 8)
    assert float(ballast[0]) == 1
