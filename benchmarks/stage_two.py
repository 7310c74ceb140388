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
from typing import Any

import numpy as np

CONTENDERS = ("finetune", "kd", "skip")
VOCABULARY = 1000
STUDENT_LAYERS = 3


def synthetic_cache(path: Path, rows: int, layers: int, hidden: int, length: int) -> None:
    """A cache of random tokens and targets."""
    import pyarrow as pa

    from pipeline.store.examples import schema
    from pipeline.store.writer import CacheWriter, Plan

    draw = np.random.default_rng(0)
    plan = Plan(
        identity={}, layers=tuple(range(1, layers + 1)), hidden_size=hidden, outputs=2,
        dtype="float16", shard_rows=1024, batch_tokens=1,
    )  # fmt: skip
    lengths = draw.integers(length // 3, length + 1, rows)
    ids = [draw.integers(5, VOCABULARY, size).tolist() for size in lengths]
    table = pa.table(
        {
            "example_id": range(rows),
            "input_ids": ids,
            "token_type_ids": [[0] * len(row) for row in ids],
            "label": draw.integers(0, 2, rows),
            "row_digest": [place.to_bytes(16, "big") for place in range(rows)],
        },
        schema=schema(regression=False),
    )
    described: dict[str, Any] = {
        "task": {"name": "bench", "label_names": ["a", "b"], "metrics": ["accuracy"]},
        "teacher": {"layers": layers}, "tokenizer": {"pad_id": 0}, "data_digest": "",
        "max_length": length, "compute": "float32", "versions": {}, "measured_error": {},
    }  # fmt: skip
    with CacheWriter(path, plan) as writer:
        writer.add_split("train", table)
        for shard in writer.unfinished("train"):
            size = writer.rows_of("train", shard)
            count = size.stop - size.start
            cls = draw.normal(size=(count, layers, hidden)).astype(np.float32)
            writer.write_shard("train", shard, draw.normal(size=(count, 2)).astype("f4"), cls)
        writer.finish(lambda: described)


def contend(cache_path: Path, strategy: str, steps: int) -> dict[str, float]:
    """Train `steps` steps with one strategy; the first tenth is warm-up."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from pipeline.batches import training_batches
    from pipeline.fit_student import distillation_terms, load_rows, objective_of
    from pipeline.layers import layer_map
    from pipeline.params import StudentParams
    from pipeline.store.reader import TeacherCache
    from pipeline.targets import load_targets

    cache, device = TeacherCache.open(cache_path), torch.device("cpu")
    hidden, teacher_layers = cache.manifest.hidden_size, len(cache.manifest.layers)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=4 * hidden,
        num_attention_heads=hidden // 64, num_hidden_layers=STUDENT_LAYERS,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).train()
    layers = layer_map(strategy, teacher_layers, STUDENT_LAYERS)
    rows = load_rows(cache, "train", device)
    targets = None if strategy == "finetune" else load_targets(cache, "train", layers, device)
    objective = objective_of(StudentParams(strategy=strategy), layers)
    terms = distillation_terms(model, objective, targets, layers)
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
        synthetic_cache(path, given.rows, given.layers, given.hidden, given.length)
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
