"""What a manifest may say: types, ranges, and that its parts fit each other.

A cache comes from someone else, and its manifest may be made up. Everything that later sizes an
array or names a file is checked here first, in time and memory that grow with the manifest alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import CacheCorruptError
from pipeline.store.format import (
    CLS,
    CLS_DTYPES,
    EXAMPLES,
    METADATA,
    array_specs,
    shard_count,
    split_files,
)
from pipeline.store.place import require_inside

MOST_ROWS = 1 << 40
MOST_LAYERS = 1 << 10
LARGEST_HIDDEN = 1 << 16
MOST_OUTPUTS = 1 << 16
LARGEST_CHUNK_BYTES = 1 << 31  # decoded
LEAST_ROW_BYTES = 16  # of the examples file: a row's digest alone
SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
SURROGATE = re.compile("[\ud800-\udfff]")
SHA256 = re.compile(r"[0-9a-f]{64}")

Check = Callable[[Any], bool]


def require_valid(content: Mapping[str, Any], where: str) -> None:
    """Check a parsed manifest whose fields are all there; raises CacheCorruptError."""
    try:
        problem = _problem(content)
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, OverflowError) as error:
        problem = f"malformed ({type(error).__name__}: {error})"
    if problem:
        raise CacheCorruptError(f"{where}: malformed manifest: {problem}.")


def _problem(content: Mapping[str, Any]) -> str | None:
    for name, check in FIELDS.items():
        if not check(content[name]):
            return f"{name} is {_short(content[name])}"
    for check_parts in (_layers, _chunk_size, _splits, _file_list, _arrays, _row_digests):
        if problem := check_parts(content):
            return problem
    return None


def whole(low: int, high: int) -> Check:
    """A whole number, not a truth value, within limits."""
    return lambda value: type(value) is int and low <= value <= high


def _text(value: Any) -> bool:
    # a lone surrogate is JSON, but cannot be written as UTF-8
    return type(value) is str and len(value) <= 4096 and not SURROGATE.search(value)


def _sha256(value: Any) -> bool:
    return type(value) is str and SHA256.fullmatch(value) is not None


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
_rows = whole(0, MOST_ROWS)
_scores = map_of(map_of(_number))
_error_of_layer = record(
    dict.fromkeys(
        ("relative_l2_max", "relative_l2_mean", "cosine_distance_max", "cosine_distance_mean"),
        _number,
    )
)

FIELDS: dict[str, Check] = {
    "task": record(
        {
            "name": _text,
            "label_names": list_of(_text, 0, MOST_OUTPUTS),
            "metrics": list_of(_text, 1, 16),
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
                        "hub_id": either(_text, _nothing),
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
            {"layer_bytes": list_of(_rows, 1, MOST_LAYERS)},
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


def _layers(content: Mapping[str, Any]) -> str | None:
    layers = content["layers"]
    if layers != sorted(set(layers)) or layers[-1] > content["teacher"]["layers"]:
        return f"layers is {_short(layers)} of a teacher with {content['teacher']['layers']}"
    if set(content["measured_error"]["layers"]) != {str(layer) for layer in layers}:
        return "measured_error is of other layers"
    if content["outputs"] != (len(content["task"]["label_names"]) or 1):
        return f"outputs is {content['outputs']}, the task has other labels"
    return None


def _chunk_size(content: Mapping[str, Any]) -> str | None:
    spec = array_specs(rows=1, **shape_of(content))[CLS]
    if spec.chunk_bytes > LARGEST_CHUNK_BYTES:
        return f"shard_rows is {content['shard_rows']:,}: a chunk takes {spec.chunk_bytes:,} bytes"
    return None


def _splits(content: Mapping[str, Any]) -> str | None:
    """Counts that the bytes of the tokens can hold, before anything is sized by them."""
    if not content["splits"]:
        return "it has no splits"
    for name, split in content["splits"].items():
        if not SPLIT_NAME.fullmatch(name):
            return f"splits has the name {name!r}"
        if split["labelled_rows"] > split["rows"]:
            return f"splits: {name} has more labelled rows than rows"
        entry = content["files"].get(f"{name}/{EXAMPLES}")
        if entry is None or entry["size"] < LEAST_ROW_BYTES * split["rows"]:
            return f"splits: {name} cannot hold {split['rows']:,} rows"
    return None


def _file_list(content: Mapping[str, Any]) -> str | None:
    """The files are those of the splits, and no others."""
    files = content["files"]
    for name in files:
        require_inside(name, "files")
    shard_rows, dtype = content["shard_rows"], content["dtype"]
    arrays = 3 if dtype == "int8" else 2
    expected = 1  # counted first: a made-up number of rows must not become a list
    for split in content["splits"].values():
        expected += 2 + arrays * (1 + shard_count(split["rows"], shard_rows))
    if expected == len(files):
        names = {METADATA}
        for name, split in content["splits"].items():
            names.update(split_files(name, split["rows"], shard_rows, dtype))
        if names == files.keys():
            return None
    return "files does not list the files of its own splits"


def _arrays(content: Mapping[str, Any]) -> str | None:
    expected: dict[str, Any] = {}
    for split, info in content["splits"].items():
        for spec in array_specs(rows=info["rows"], **shape_of(content)).values():
            path = f"{split}/{spec.name}"
            expected[path] = {"shape": list(spec.shape), "dtype": spec.dtype}
            if spec.name == CLS:
                layer_bytes = content["arrays"].get(path, {}).get("layer_bytes", [])
                if len(layer_bytes) != len(content["layers"]):
                    return "arrays: layer_bytes is not one number a layer"
                expected[path]["layer_bytes"] = layer_bytes
    return None if content["arrays"] == expected else "arrays are not those of its splits"


def _row_digests(content: Mapping[str, Any]) -> str | None:
    digests, layers = content["row_digests"], len(content["layers"])
    if digests.keys() != content["splits"].keys():
        return "row_digests are of other splits"
    for split, info in content["splits"].items():
        specs = array_specs(rows=info["rows"], **shape_of(content))
        shards = shard_count(info["rows"], content["shard_rows"])
        if digests[split].keys() != specs.keys():
            return f"row_digests: {split} has other arrays"
        for array, rows in digests[split].items():
            width = layers if array == CLS else 1
            if len(rows) != shards or any(len(each) != width for each in rows):
                return f"row_digests: {split}/{array} is of another shape"
    return None


def shape_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `array_specs` but the rows."""
    return {
        "layers": len(content["layers"]),
        "hidden": content["hidden_size"],
        "outputs": content["outputs"],
        "dtype": content["dtype"],
        "shard_rows": content["shard_rows"],
    }


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
