"""Out-of-fold logits: of every training row, from a teacher that was not trained on it.

A fine-tuned teacher is right, and sure, on nearly every row of its own training set, so its logits
of those rows say little of what it knows of new ones; PTP (`pipeline.student.ptp`) is where that
hurts.
Shapes: N training rows, K outputs.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import metrics
from pipeline.batches import UNLABELLED_CLASS, Rows
from pipeline.digests import digest_array, digest_json
from pipeline.errors import CacheMismatchError, ModelError, ParamsError
from pipeline.files import write_atomic
from pipeline.tasks import Task
from pipeline.training.evaluate import predict

OUT_OF_FOLD_FILE = "out_of_fold.parquet"  # in a teacher's folder

Array = np.ndarray[Any, Any]
FitOne = Callable[[int, Rows, Path], Any]
"""(fold from 1, rows whose held-out labels are hidden, folder for checkpoints) -> classifier."""


@dataclass(frozen=True)
class OutOfFold:
    """Logits of training rows by what the teacher reads of them."""

    by_digest: dict[bytes, Array]
    """row_digest -> (K,) float32."""
    folds: int

    @property
    def digest(self) -> str:
        """sha256 of the logits and the rows that they are of."""
        order = sorted(self.by_digest)
        values = np.stack([self.by_digest[each] for each in order])
        return digest_json([each.hex() for each in order] + [digest_array(values)])

    def of_rows(self, digests: Sequence[bytes], where: str, order: Sequence[int]) -> Array:
        """(N, K) float32 logits of rows, their columns in `order`.

        Raises:
            CacheMismatchError: a row that the folds did not have.
        """
        missing = sum(each not in self.by_digest for each in digests)
        if missing:
            raise CacheMismatchError(
                f"{where}: its out-of-fold logits lack {missing:,} of {len(digests):,} training "
                "rows: it was fitted on other data or with another --max-length. Fit it again on "
                "this data with `pkd-teacher fit --folds`."
            )
        return np.stack([self.by_digest[each] for each in digests])[:, list(order)]


def require_folds(rows: Rows, folds: int) -> None:
    """Refuse a number of folds that cannot be; raises ParamsError."""
    labelled = int(rows.labelled_N.sum())
    if folds == 1 or labelled < 2 * folds:
        raise ParamsError(
            f"--folds {folds}: expected 0, or at least 2 and at most half of the labelled training "
            f"rows ({labelled:,})."
        )
    labels_N = rows.labels_N[rows.labelled_N]
    largest = labelled if labels_N.is_floating_point() else int(labels_N.bincount().max())
    if 0 < largest < folds:
        raise ParamsError(
            f"--folds {folds}: no class has more than {largest:,} training rows, so none is in "
            f"every fold; choose at most {largest:,}."
        )


def assign_folds(labels_N: Array, digests: Sequence[bytes], folds: int, seed: int) -> Array:
    """(N,) fold of each row, from 1; equal inputs share one, classes are spread evenly.

    Args:
        labels_N: classes with -100, or numbers with NaN, where unlabelled.
        digests: row_digest of each row.
        folds: how many, at least 2.
        seed: of the draw.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    _, group_N = np.unique(np.array(digests, dtype="V16"), return_inverse=True)
    options = {"n_splits": folds, "shuffle": True, "random_state": seed}
    numbers = labels_N.dtype != np.int64
    splitter = GroupKFold(**options) if numbers else StratifiedGroupKFold(**options)
    fold_N = np.zeros(len(labels_N), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, held_out) in enumerate(splitter.split(fold_N, labels_N, group_N), start=1):
            fold_N[held_out] = fold
    return fold_N


def fit_folds(
    rows: Rows, digests: Sequence[bytes], folds: int, seed: int, state: Path, fit_one: FitOne
) -> OutOfFold:
    """Fit a teacher without each fold in turn, and take its logits of that fold.

    Args:
        rows: the training rows; those without a label get logits too.
        digests: their row_digest.
        folds: how many.
        seed: of the draw of folds.
        state: folder for what is finished; folds that are in it are not fitted again.
        fit_one: fits one.
    """
    fold_N = assign_folds(rows.labels_N.cpu().numpy(), digests, folds, seed)
    logits_by_fold = {}
    for fold in range(1, folds + 1):
        held_out = np.flatnonzero(fold_N == fold)
        done = state / f"fold-{fold}.npy"
        if not done.exists():
            model = fit_one(fold, without_labels(rows, held_out), state / f"fold-{fold}")
            write_atomic(done, _as_bytes(_predict_some(model, rows, held_out)))
            shutil.rmtree(state / f"fold-{fold}")
        logits_by_fold[fold] = np.load(done)
    by_digest = {
        digests[int(row)]: logits_K
        for fold, logits in logits_by_fold.items()
        for row, logits_K in zip(np.flatnonzero(fold_N == fold), logits, strict=True)
    }
    return OutOfFold(by_digest, folds)


def without_labels(rows: Rows, hidden: Array) -> Rows:
    """The same rows, some with no label, so that nothing is learned from those."""
    labels_N = rows.labels_N.clone()
    nothing = float("nan") if labels_N.is_floating_point() else UNLABELLED_CLASS
    labels_N[torch.from_numpy(hidden).to(labels_N.device)] = nothing
    return replace(rows, labels_N=labels_N)


def _predict_some(model: Any, rows: Rows, places: Array, batch_size: int = 128) -> Array:
    """(len(places), K) float32 logits of some rows."""
    return predict(model, rows.take(torch.from_numpy(places)), batch_size)


def score_out_of_fold(
    task: Task, found: OutOfFold, rows: Rows, digests: Sequence[bytes]
) -> dict[str, float]:
    """The task's metrics over the labelled training rows, each by a teacher that never saw it."""
    known = rows.labelled_N.cpu().numpy()
    logits = found.of_rows(digests, "folds", range(task.num_outputs))
    return metrics.score(task, logits[known], rows.labels_N.cpu().numpy()[known])


def write_out_of_fold(folder: Path, found: OutOfFold) -> None:
    """Put them into a teacher's folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    digests = sorted(found.by_digest)
    columns = {
        "row_digest": pa.array(digests, pa.binary(16)),
        "logits": pa.array([found.by_digest[each].tolist() for each in digests]),
    }
    table = pa.table(columns).cast(
        pa.schema([("row_digest", pa.binary(16)), ("logits", pa.list_(pa.float32()))])
    )
    labelled = table.replace_schema_metadata({"folds": str(found.folds)})
    pq.write_table(labelled, folder / OUT_OF_FOLD_FILE)


def read_out_of_fold(teacher: str, outputs: int) -> OutOfFold | None:
    """Those of a teacher's folder; None where it has none, or is not a folder.

    Raises:
        ModelError: a file that is damaged, or not of that many outputs.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(teacher).expanduser() / OUT_OF_FOLD_FILE
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        folds = int(table.schema.metadata[b"folds"])
        flat = table["logits"].combine_chunks().values.to_numpy()
        values = flat.reshape(table.num_rows, outputs).astype(np.float32)
        digests = table["row_digest"].to_pylist()
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: not the out-of-fold logits of {outputs} outputs ({error}); fit the teacher "
            "again with --folds and --overwrite."
        ) from None
    return OutOfFold(dict(zip(digests, values, strict=True)), folds)


def _as_bytes(values: Array) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
