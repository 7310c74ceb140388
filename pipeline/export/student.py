"""Exporting one classifier: the files, the check of each, and the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.digests import digest_tokenizer
from pipeline.existing import damaged_file, must_build
from pipeline.export.card import export_card
from pipeline.export.convert import OPSET, to_int8, to_onnx
from pipeline.export.libraries import onnx_versions, require_onnx
from pipeline.export.measured import measured, rows_to_check
from pipeline.export.record import FILES, FORMAT, RECORD
from pipeline.export.tokens import save_tokenizer
from pipeline.files import building, read_json, write_atomic, write_json
from pipeline.locks import locked
from pipeline.machine import processor
from pipeline.models.identity import identify_model
from pipeline.models.inputs import input_names
from pipeline.models.load import load_classifier, load_tokenizer
from pipeline.models.sizes import sizes_of
from pipeline.models.trained import record_of, trained_length
from pipeline.progress import Tick, silent


def export_student(
    student: Path,
    out: Path,
    *,
    int8: bool,
    cache: Path | str | None,
    overwrite: bool,
    tick: Tick = silent,
) -> dict[str, Any]:
    """Export a classifier, check that its logits stayed the same, and publish the folder whole.

    Args:
        student: a fine-tuned classifier with its tokenizer; a teacher is one too.
        out: the folder to make: ONNX files, tokenizer, configuration, README.md and export.json.
        int8: also a file of int8 weights.
        cache: whose validation rows the check and the scores use; None = made-up rows, no scores.
        overwrite: replace an export of something else.
        tick: told of finished steps.

    Returns:
        The record; with `existed: True` when `out` came from the same inputs already. One whose
        ONNX files are gone or cut is made again; with `overwrite`, one of other bytes too.

    Raises:
        ExportError: a library is missing, the model cannot be exported, or its logits differ.
        ModelError, CacheError, OutputExistsError, BusyError: as their names say.
    """
    require_onnx()
    model, tokenizer = load_classifier(str(student)), load_tokenizer(str(student))
    names = input_names(model, tokenizer)
    max_length = trained_length(record_of(student), model.config)
    splits = rows_to_check(student, model, tokenizer, names, max_length, cache)
    identity = _identity(model, tokenizer, max_length, int8=int8, cache=cache)
    if not must_build(out, RECORD, {"identity": identity}, overwrite=overwrite):
        found = dict(read_json(out / RECORD))
        if _is_whole(out, found, thorough=overwrite):
            return found | {"existed": True}
    wanted = [kind for kind in FILES if int8 or kind == "float32"]
    with locked(out), building(out) as partial:
        tick("export", 0, len(wanted) + 1)
        to_onnx(model, names, partial / FILES["float32"])
        tick("export", 1, len(wanted) + 1)
        if int8:
            to_int8(partial / FILES["float32"], partial / FILES["int8"])
            tick("export", 2, len(wanted) + 1)
        record = {
            "kind": "export",
            "format": FORMAT,
            "identity": identity,
            "name": out.name,
            "student": _describe(student, model),
            "inputs": list(names),
            "max_length": max_length,
            "opset": OPSET,
            "processor": processor(),
            "versions": onnx_versions(),
        } | measured(student, model, partial, wanted, splits)
        save_tokenizer(tokenizer, max_length, partial)
        model.config.save_pretrained(partial)
        write_json(partial / RECORD, record)
        write_atomic(partial / "README.md", export_card(record).encode())
        tick("export", len(wanted) + 1, len(wanted) + 1)
    return record


def _is_whole(out: Path, record: dict[str, Any], *, thorough: bool) -> bool:
    try:
        files = {
            each["file"]: {"size": each["size_bytes"], "sha256": each["sha256"]}
            for each in record["files"].values()
        }
    except (KeyError, TypeError, AttributeError):  # a record that was edited
        return False
    return damaged_file(out, files, thorough=thorough) is None


def _identity(
    model: Any, tokenizer: Any, max_length: int, *, int8: bool, cache: Path | str | None
) -> dict[str, Any]:
    from pipeline.store.manifest import read_manifest

    return {
        "student_digest": identify_model(model),
        "tokenizer_digest": digest_tokenizer(tokenizer),
        "max_length": max_length,
        "opset": OPSET,
        "int8": int8,
        "cache": None if cache is None else read_manifest(cache).content_digest,
    }


def _describe(student: Path, model: Any) -> dict[str, Any]:
    return {
        "name": student.resolve().name,
        "digest": identify_model(model),
        "model_type": model.config.model_type,
        "sizes": sizes_of(model, student).to_dict(),
        "labels": [str(model.config.id2label[index]) for index in range(model.config.num_labels)],
    }
