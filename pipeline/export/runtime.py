"""An exported classifier in onnxruntime, on the CPU.

Shapes: N rows, B rows in a batch, S tokens of its longest row, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.batches import Rows, sorted_batches
from pipeline.errors import ModelError
from pipeline.export.libraries import require_onnx

Array = np.ndarray[Any, Any]


class OnnxClassifier:
    """One ONNX file, loaded.

    Promises: logits in float32, in the order of the rows. Does not: read a tokenizer or labels.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Load a file.

        Args:
            path: of an export.
            threads: of one call; None = as many as torch has.

        Raises:
            ExportError: no onnxruntime.
            ModelError: no such file, or none that it reads.
        """
        require_onnx("onnxruntime")
        self._session = _session(path, threads or torch.get_num_threads())
        self.inputs = tuple(each.name for each in self._session.get_inputs())

    def feed(self, batch: Mapping[str, Tensor]) -> dict[str, Array]:
        """What `run` takes: the model's inputs (B, S) as arrays."""
        return {name: np.ascontiguousarray(batch[name].numpy()) for name in self.inputs}

    def run(self, feed: Mapping[str, Array]) -> Array:
        """(B, K) float32 logits of one batch."""
        return np.asarray(self._session.run(["logits"], feed)[0])

    def predict(self, rows: Rows, batch_size: int) -> Array:
        """(N, K) float32 logits in the order of the rows; batches of rows of similar length."""
        lengths_N = rows.lengths_N
        batches = sorted_batches(lengths_N, batch_size)
        parts = [
            self.run(self.feed(rows.batch(batch, int(lengths_N[batch[0]])))) for batch in batches
        ]
        logits = np.concatenate(parts)
        inverse = torch.cat(batches).argsort().numpy()
        return np.asarray(logits[inverse])


def _session(path: Path, threads: int) -> Any:
    import onnxruntime as ort

    if not path.is_file():
        raise ModelError(f"{path}: no such file; `pkd-student export STUDENT --onnx` makes one.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors have no common base
        raise ModelError(
            f"{path}: onnxruntime {ort.__version__} cannot read it ({error})."
        ) from None
