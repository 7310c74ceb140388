"""pytest tests/pipeline/models/test_running.py - on CUDA nobody waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.load import load_classifier
from pipeline.models.running import as_run, as_trained
from pipeline.params import StudentParams
from pipeline.student.fit import fit_student
from pipeline.teacher.forward import load_teacher, run_rows
from pipeline.training import loop
from tests.pipeline.models.test_attention import LIKE_BERT, classifier, outcome, rows_of
from tests.support.tiny import STUDENT, World

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class Reads(TorchDispatchMode):
    """Counts values of tensors that Python looks at: on CUDA each is a wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("lengths", [(7, 2, 5), (4, 4)])
@pytest.mark.parametrize("family", LIKE_BERT)
def test_a_step_on_cuda_reads_no_tensor(
    tmp_path: Path, family: str, lengths: tuple[int, ...]
) -> None:
    """As it is set up for CUDA, but run on the CPU, and equal to the model as it was."""
    model = classifier(tmp_path, family)
    rows = rows_of(*lengths, types=family not in ("roberta", "xlm-roberta", "distilbert"))
    every, longest = torch.arange(len(lengths)), max(lengths)
    expected = outcome(model, rows.batch(every, longest))
    with Reads() as usual:
        outcome(model, rows.batch(every, longest))
    assert usual.count  # what this is about: whether anything is padded
    for settings in (StudentParams(), StudentParams(packed=True, precision="bfloat16")):
        with as_trained(model, settings, CUDA), Reads() as reads:
            found = outcome(model, rows.batch(every, longest))
        assert reads.count == 0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_another_family_is_left_as_it_is(tmp_path: Path) -> None:
    model, rows = classifier(tmp_path, "deberta-v2"), rows_of(3, 2, types=True)
    expected = model(**rows.batch(torch.arange(2), 3)).logits
    with as_run(model, CUDA):
        found = model(**rows.batch(torch.arange(2), 3)).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_packed_rows_need_no_mask(tmp_path: Path) -> None:
    """One of all tokens by all tokens would be large."""
    from pipeline.models import attention

    masks: list[Any] = []

    def spy(*args: Any, **options: Any) -> Any:
        masks.append(args[4])
        return attended(*args, **options)

    model, rows = classifier(tmp_path, "bert"), rows_of(5, 3, types=True)
    settings, attended = StudentParams(packed=True, dropout=0.0), attention.attend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "attend", spy)
        with as_trained(model, settings, CPU):
            model(**rows.packed(torch.arange(2), rows.lengths_N))
    assert masks == [None, None]


def test_the_pass_of_a_teacher_on_cuda_reads_no_tensor(world: World) -> None:
    """Likewise on the CPU; and it finds what the model by itself finds."""
    teacher = load_teacher(str(world.teacher), device=CPU, compute="float32", output_order=(1, 0))
    rows = rows_of(*range(2, 14), types=True)
    with as_run(teacher.model, CUDA), Reads() as reads:
        logits, cls = run_rows(teacher, rows, range(12), (1, 4), batch_tokens=40)
    assert reads.count == 0
    alone = load_classifier(str(world.teacher))
    with torch.inference_mode():
        for row in range(12):
            found = alone(**rows.batch(torch.tensor([row]), row + 2), output_hidden_states=True)
            expected = found.logits[0].flip(0).numpy()
            assert logits[row] == pytest.approx(expected, abs=1e-5)
            for place, layer in enumerate((1, 4)):
                expected = found.hidden_states[layer][0, 0].numpy()
                assert cls[row, place] == pytest.approx(expected, abs=1e-5)


@pytest.fixture
def sync_mode() -> Iterator[Callable[[str], None]]:
    """Sets whether a wait is an error; afterwards it is none."""
    yield torch.cuda.set_sync_debug_mode
    torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("strategy", ["kd", "skip"])  # EMD solves on the processor
def test_steps_on_a_gpu_never_wait(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    sync_mode: Callable[[str], None], strategy: str, packed: bool,
) -> None:  # fmt: skip
    """From the first step of an epoch, which is told, to its end."""
    steps: list[int] = []

    def told(entry: loop.StepLog) -> None:
        steps.append(entry.step)
        sync_mode("error")

    def epoch_means(meter: Any) -> Any:
        sync_mode("default")
        return read(meter)

    read = loop._Meter.epoch_means
    monkeypatch.setattr(loop, "LOG_EVERY", 1000)
    monkeypatch.setattr(loop._Meter, "epoch_means", epoch_means)
    params = replace(
        STUDENT, init=str(world.encoder), strategy=strategy, device="cuda", precision="bfloat16",
        epochs=1, dropout=0.0, packed=packed,
    )  # fmt: skip
    fit_student(cache_path=world.cache, out=tmp_path / "s", params=params, sources={}, on_step=told)
    assert steps == [1]


@needs_gpu
def test_the_pass_of_a_teacher_on_a_gpu_never_waits(
    world: World, sync_mode: Callable[[str], None]
) -> None:
    """From the end of its first batch, which warms up, to that of its last."""
    teacher = load_teacher(str(world.teacher), device=CUDA, compute="bfloat16")
    rows = rows_of(*range(2, 14), types=True).to(CUDA)
    seen: list[int] = []

    def on_batch(count: int, _: int) -> None:
        seen.append(count)
        sync_mode("default" if sum(seen) == len(rows) else "error")

    with as_run(teacher.model, CUDA):
        run_rows(teacher, rows, range(12), (1, 4), batch_tokens=40, on_batch=on_batch)
    assert len(seen) > 2
