"""From a `transformers` classifier to an ONNX file, and from that to one of int8 weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import ExportError
from pipeline.export.libraries import quiet
from pipeline.files import naming_full_disk
from pipeline.models.sizes import parameter_counts

OPSET = 20
"""The first one with GELU as an operator of its own; read by onnxruntime 1.17 and later."""
LARGEST_BYTES = 2**31 - 2**20  # of one ONNX file: a protobuf message, with room for the graph
TRACED_ROWS, TRACED_TOKENS = 2, 7  # sizes of 0 and 1 would be taken for constants


def to_onnx(model: Any, names: tuple[str, ...], path: Path) -> None:
    """Write a classifier as one ONNX file; batch and sequence lengths are free.

    Weights that are equal are stored once, as those of layers that were shared in training.

    Args:
        model: on the CPU, in eval mode.
        names: its inputs, each (batch, sequence) int64.
        path: the file; its output is `logits`, (batch, outputs) float32.

    Raises:
        ExportError: more than an ONNX file can hold, or a model that torch cannot export.
    """
    size = 4 * parameter_counts(model)["total"]
    if size > LARGEST_BYTES:
        raise ExportError(
            f"{model.config.name_or_path}: {size / 1e9:.1f} GB of weights; one ONNX file holds "
            f"{LARGEST_BYTES / 1e9:.1f} GB."
        )
    example = {
        name: torch.full((TRACED_ROWS, TRACED_TOKENS), int(name == "attention_mask"))
        for name in names
    }
    with quiet():
        try:
            program = torch.onnx.export(
                model,
                kwargs=example,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in names},
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                f"{model.config.name_or_path}: torch {torch.__version__} cannot export a model of "
                f"type `{model.config.model_type}` ({str(error).splitlines()[0]})."
            ) from error
        assert program is not None
        _tidy(program.model)
        with naming_full_disk(path.parent):
            program.save(str(path))


def _tidy(model: Any) -> None:
    """Drop stack traces, which name files of this machine, and copies of a weight."""
    import onnx_ir
    from onnx_ir.passes import common

    for weight in model.graph.initializers.values():
        values = weight.const_value.numpy()
        if not values.flags.c_contiguous:  # the pass below hashes memory as it lies
            weight.const_value = onnx_ir.tensor(np.ascontiguousarray(values), name=weight.name)
    common.ClearMetadataAndDocStringPass()(model)
    common.DeduplicateHashedInitializersPass()(model)


def to_int8(source: Path, target: Path) -> None:
    """Write the same model with int8 weights: dynamic quantisation by onnxruntime.

    Weights become 8 bits, those of a product with a scale for each output, embeddings with one;
    what goes into a product is rounded to 8 bits as it comes, with one scale for the whole batch.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    # the quantiser transposes weights, and then finds their recorded shapes wrong
    del model.graph.value_info[:]
    with quiet(), naming_full_disk(target.parent):
        quantize_dynamic(model, target, per_channel=True, weight_type=QuantType.QInt8)
