"""What each member of a manifest may be, apart from what the others say: types and ranges."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.store.format import CLS_DTYPES, FORMAT, FORMAT_VERSION

MOST_ROWS = 1 << 40
MOST_LAYERS = 1 << 10
LARGEST_HIDDEN = 1 << 16
MOST_OUTPUTS = 1 << 16
METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")  # becomes the name of a folder
HUB_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
# control characters can rewrite a terminal; a lone surrogate cannot be written as UTF-8
UNFIT = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
SHA256 = re.compile(r"[0-9a-f]{64}")

Check = Callable[[Any], bool]


def whole(low: int, high: int) -> Check:
    """A whole number, not a truth value, within limits."""
    return lambda value: type(value) is int and low <= value <= high


def _text(value: Any) -> bool:
    return type(value) is str and len(value) <= 4096 and not UNFIT.search(value)


def form(pattern: re.Pattern[str]) -> Check:
    """A text of a form."""
    return lambda value: type(value) is str and pattern.fullmatch(value) is not None


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def list_of(check: Check, low: int, high: int) -> Check:
    """A list of checked values whose length is within limits."""
    return lambda value: (
        type(value) is list and low <= len(value) <= high and all(map(check, value))
    )


def map_of(check: Check) -> Check:
    """A mapping from text to checked values."""
    return lambda value: (
        type(value) is dict and all(map(_text, value)) and all(map(check, value.values()))
    )


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A mapping with these keys and no others."""
    known = {**required, **(optional or {})}
    return lambda value: (
        type(value) is dict
        and required.keys() <= value.keys() <= known.keys()
        and all(known[key](each) for key, each in value.items())
    )


def either(*checks: Check) -> Check:
    """Any of several."""
    return lambda value: any(check(value) for check in checks)


def one_of(*values: Any) -> Check:
    """One of the values, of its own type."""
    return lambda value: any(type(value) is type(each) and value == each for each in values)


_nothing = one_of(None)
_sha256 = form(SHA256)
_rows = whole(0, MOST_ROWS)
_scores = map_of(map_of(_number))
_error_of_layer = record(
    dict.fromkeys(
        ("relative_l2_max", "relative_l2_mean", "cosine_distance_max", "cosine_distance_mean"),
        _number,
    )
)

FIELDS: dict[str, Check] = {
    "format": one_of(FORMAT),
    "format_version": one_of(FORMAT_VERSION),
    "task": record(
        {
            "name": form(TASK_NAME),
            "label_names": list_of(_text, 0, MOST_OUTPUTS),
            "metrics": list_of(one_of(*METRICS), 1, 16),
            "text_columns": list_of(_text, 1, 2),
            "label_column": _text,
            "validation_splits": list_of(_text, 1, 16),
            "id_column": either(_text, _nothing),
        }
    ),
    "teacher": record(
        {
            "name": _text,
            "digest": _text,
            "layers": whole(1, MOST_LAYERS),
            "output_order": list_of(whole(0, MOST_OUTPUTS), 1, MOST_OUTPUTS),
            "parameters": whole(0, 1 << 50),
            "base": either(
                record(
                    {
                        "name": _text,
                        "digest": either(_text, _nothing),
                        "hub_id": either(form(HUB_ID), _nothing),
                    }
                ),
                _nothing,
            ),
            "scores": _scores,
            "agreement": map_of(_number),
        }
    ),
    "tokenizer": record(
        {
            "name": _text,
            "digest": _text,
            "pad_id": whole(0, 1 << 31),
            "vocab_size": whole(1, 1 << 31),
        }
    ),
    "data_digest": _text,
    "max_length": whole(1, 1 << 24),
    "layers": list_of(whole(1, MOST_LAYERS), 1, MOST_LAYERS),
    "hidden_size": whole(1, LARGEST_HIDDEN),
    "outputs": whole(1, MOST_OUTPUTS),
    "dtype": one_of(*CLS_DTYPES),
    "compute": one_of("float32", "bfloat16"),
    "shard_rows": whole(1, MOST_ROWS),
    "batch_tokens": whole(1, MOST_ROWS),
    "splits": map_of(
        record(
            {
                "rows": whole(1, MOST_ROWS),
                "tokens": _rows,
                "labelled_rows": _rows,
                "length_histogram": map_of(_rows),
                "digest": _sha256,
            }
        )
    ),
    "measured_error": record(
        {"rows": _rows, "layers": map_of(_error_of_layer), "logits_abs_max": _number}
    ),
    "reused": record({"rows": _rows, "content_digest": either(_sha256, _nothing)}),
    "arrays": map_of(
        record(
            {"shape": list_of(_rows, 2, 3), "dtype": _text},
            {"layer_bytes": list_of(whole(1, MOST_ROWS), 1, MOST_LAYERS)},
        )
    ),
    "row_digests": map_of(
        map_of(list_of(list_of(_sha256, 1, MOST_LAYERS), 0, MOST_ROWS)),
    ),
    "files": map_of(record({"sha256": _sha256, "size": _rows})),
    "versions": map_of(_text),
    "cache_id": _sha256,
    "content_digest": _sha256,
}
