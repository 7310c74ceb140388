"""The share of a training step that EMD takes on a CPU: bert-base shape, batch 32, lengths of RTE.

    python -m benchmarks.emd_share            or: ... --depths 3 --steps 8

Timed are whole steps as training takes them (the last block at [CLS] alone, the machine's
precision; forward, all losses, backward, optimizer), and apart from them what the strategy adds:
costs of all pairs of layers, transport, new weights, and the backward pass through the costs.
Weights, tokens and cached values are random, which changes no speed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.lengths import all_lengths, rows_of
from pipeline.batches import Rows, training_batches
from pipeline.devices import autocast, pick_precision
from pipeline.models.running import as_trained
from pipeline.params import StudentParams
from pipeline.strategies import make_strategy
from pipeline.strategies.base import Matched, Shapes
from pipeline.strategies.emd import transport
from pipeline.student.recipe import objective_of
from pipeline.student.targets import CachedTargets
from pipeline.student.terms import DistillationTerms

TEACHER_LAYERS, VOCABULARY, BATCH, ROWS = 12, 30522, 32, 2490
CPU = torch.device("cpu")


def median_seconds(work: Callable[[], Any], times: int) -> float:
    """Of `times` calls after one that does not count."""
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def step_seconds(rows: Rows, depth: int, hidden: int, steps: int) -> float:
    """A step of training with the strategy in it."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=depth, hidden_size=hidden, intermediate_size=4 * hidden,
        num_attention_heads=hidden // 64,
    )  # fmt: skip
    model = BertForSequenceClassification(config).train()
    params = StudentParams(strategy="emd", student_layers=depth)
    strategy = make_strategy(shapes_of(depth, hidden), params)
    targets = CachedTargets(torch.randn(ROWS, 2), torch.randn(ROWS, TEACHER_LAYERS, hidden).half())
    terms = DistillationTerms(model, objective_of(params, strategy), targets, strategy)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batches = iter(training_batches(rows.lengths_N, BATCH, seed=0, epoch=1))

    precision = pick_precision(params.precision, CPU)

    def step() -> None:
        batch = next(batches)
        inputs = rows.batch(batch, int(rows.lengths_N[batch].max()))
        with autocast(CPU, precision):
            losses = list(terms(inputs, batch, rows.labels_N[batch]).values())
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    with as_trained(model, params, CPU):
        return median_seconds(step, steps)


def emd_seconds(depth: int, hidden: int) -> tuple[float, float]:
    """What the strategy adds to a step, and the transport alone within that."""
    strategy = make_strategy(
        shapes_of(depth, hidden), StudentParams(strategy="emd", student_layers=depth)
    )
    teacher = torch.randn(BATCH, TEACHER_LAYERS, hidden).half()
    student = torch.randn(BATCH, depth, hidden, requires_grad=True)
    batch = Matched(student, teacher, torch.arange(BATCH), torch.zeros(BATCH))
    cost = np.random.default_rng(0).random((TEACHER_LAYERS, depth))
    weights = np.full(TEACHER_LAYERS, 1 / TEACHER_LAYERS), np.full(depth, 1 / depth)
    whole = median_seconds(lambda: strategy(batch).backward(), 200)
    return whole, median_seconds(lambda: transport(*weights, cost), 200)


def shapes_of(depth: int, hidden: int) -> Shapes:
    """A student of `depth` layers, its teacher and data."""
    return Shapes(
        teacher_layers=TEACHER_LAYERS, student_layers=depth, teacher_hidden=hidden,
        student_hidden=hidden, rows=ROWS, classes=2,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the share for each depth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 6])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=768)
    given = parser.parse_args(arguments)
    rows = rows_of(all_lengths("rte"), VOCABULARY)
    print(f"{torch.get_num_threads()} threads, {pick_precision('auto', CPU)}; "
          f"{TEACHER_LAYERS} x {given.hidden} teacher, batch {BATCH}")  # fmt: skip
    print("student layers   ms/step   EMD ms   of which transport   share of the step")
    for depth in given.depths:
        emd, moving = emd_seconds(depth, given.hidden)
        step = step_seconds(rows, depth, given.hidden, given.steps)
        print(f"{depth:>14}{1000 * step:>10.0f}{1000 * emd:>9.2f}{1000 * moving:>21.2f}"
              f"{emd / step:>20.3%}")  # fmt: skip


if __name__ == "__main__":
    main()
