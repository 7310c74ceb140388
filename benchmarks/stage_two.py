"""Stage two against plain fine-tuning: seconds per step and peak memory, same batches, in one run.

    make bench        or: python -m benchmarks.stage_two --rows 2000 --layers 12 --hidden 256

Each contender is a process of its own, so that its peak memory is its own; the weights are random,
which changes no speed. The cache is synthetic, of the shape asked for.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.synthetic import VOCABULARY, synthetic_cache

CONTENDERS = ("finetune", "kd", "skip")
STUDENT_LAYERS = 3


def contend(cache_path: Path, strategy: str, steps: int) -> dict[str, float]:
    """Train `steps` steps with one strategy; the first tenth is warm-up."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from pipeline.batches import training_batches
    from pipeline.fit_student import load_rows, objective_of
    from pipeline.params import StudentParams
    from pipeline.store.reader import TeacherCache
    from pipeline.strategies import make_strategy
    from pipeline.strategies.base import Shapes
    from pipeline.targets import load_targets
    from pipeline.terms import DistillationTerms

    cache, device = TeacherCache.open(cache_path), torch.device("cpu")
    hidden, teacher_layers = cache.manifest.hidden_size, len(cache.manifest.layers)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=4 * hidden,
        num_attention_heads=hidden // 64, num_hidden_layers=STUDENT_LAYERS,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).train()
    params = StudentParams(strategy=strategy, student_layers=STUDENT_LAYERS)
    shapes = Shapes(
        teacher_layers=teacher_layers, student_layers=STUDENT_LAYERS, teacher_hidden=hidden,
        student_hidden=hidden, rows=cache.split("train").rows, classes=2,
    )  # fmt: skip
    matching = make_strategy(shapes, params)
    layers = matching.teacher_layers
    rows = load_rows(cache, "train", device)
    targets = None if strategy == "finetune" else load_targets(cache, "train", layers, device)
    terms = DistillationTerms(model, objective_of(params, matching), targets, matching)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batches = training_batches(rows.lengths_N, 32, seed=0, epoch=1)
    seconds = []
    for step in range(steps):
        batch = batches[step % len(batches)]
        start = time.perf_counter()
        inputs = rows.batch(batch, int(rows.lengths_N[batch].max()))
        torch.stack(list(terms(inputs, batch, rows.labels_N[batch]).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    cached = 0 if targets is None else targets.cls_NLH.nbytes + targets.logits_NK.nbytes
    return {
        "step_seconds": float(np.median(seconds[max(1, steps // 10) :])),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cached_mb": cached / 2**20,
    }


def main() -> None:
    """Run the contenders in turn, twice, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 4000), ("layers", 12), ("hidden", 256), ("length", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--contend", nargs=2, metavar=("CACHE", "STRATEGY"))
    given = parser.parse_args()
    if given.contend:
        path, strategy = given.contend
        print(json.dumps(contend(Path(path), strategy, given.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.zarr"
        synthetic_cache(
            path, rows=given.rows, layers=given.layers, hidden=given.hidden, length=given.length
        )
        command = [sys.executable, "-m", "benchmarks.stage_two", "--steps", str(given.steps)]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for name in CONTENDERS * 2:
            result = subprocess.run(
                [*command, "--contend", str(path), name], capture_output=True, text=True, check=True
            )
            found[name].append(json.loads(result.stdout))
    floor = {key: min(each[key] for each in found["finetune"]) for key in found["finetune"][0]}
    print(f"{'contender':<12}{'ms/step':>9}{'ratio':>7}{'peak MB':>9}{'cached MB':>11}"
          f"{'(peak - cached) / floor':>25}")  # fmt: skip
    for name, runs in found.items():
        best = {key: min(each[key] for each in runs) for key in runs[0]}
        memory = (best["peak_mb"] - best["cached_mb"]) / floor["peak_mb"]
        print(
            f"{name:<12}{1000 * best['step_seconds']:>9.1f}"
            f"{best['step_seconds'] / floor['step_seconds']:>7.3f}{best['peak_mb']:>9.0f}"
            f"{best['cached_mb']:>11.1f}{memory:>25.3f}"
        )


if __name__ == "__main__":
    main()
