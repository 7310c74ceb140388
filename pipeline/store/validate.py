"""What a manifest may say: that its members are in range (`fields`), and fit each other.

A cache comes from someone else, and its manifest may be made up. Everything that later sizes an
array or names a file is checked here first, in time and memory that grow with the manifest alone.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from pipeline.errors import CacheCorruptError, CacheError
from pipeline.store.fields import FIELDS
from pipeline.store.format import (
    CLS,
    EXAMPLES,
    LARGEST_METADATA,
    METADATA,
    ArraySpec,
    array_specs,
    arrays_of,
    optional_arrays,
    shard_count,
    shard_file,
    split_files,
)
from pipeline.store.place import require_inside

LEAST_ROW_BYTES = 16  # of the examples file: a row's digest alone
LEAST_TOKEN_BYTES = 4
MOST_ROW_BYTES, MOST_TOKEN_BYTES, MOST_OTHER_BYTES = 64, 16, 1 << 20  # of the examples file
SMALL_BYTES = 1 << 26  # arrays of a split that may be any number of times their files
MOST_EXPANSION = 256  # decoded bytes of an array by those of its files; a teacher's are about 1
SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def require_valid(content: Mapping[str, Any], where: str) -> None:
    """Check a parsed manifest whose fields are all there; raises CacheCorruptError."""
    try:
        problem = _problem(content)
    except (TypeError, AttributeError, LookupError, ValueError, ArithmeticError) as error:
        problem = f"{type(error).__name__}: {short(str(error))}"
    except RecursionError:
        problem = "nested too deeply"
    except CacheError as error:
        problem = str(error).removesuffix(".")
    if problem:
        raise CacheCorruptError(f"{where}: malformed manifest: {problem}.")


def _problem(content: Mapping[str, Any]) -> str | None:
    for name, check in FIELDS.items():
        if not check(content[name]):
            return f"{name} is {short(content[name])}"
    for check_parts in (_task, _layers, _splits, _file_list, _arrays, _row_digests, _sizes):
        if problem := check_parts(content):
            return problem
    return None


def _task(content: Mapping[str, Any]) -> str | None:
    task, outputs = content["task"], content["outputs"]
    labels, metrics = task["label_names"], set(task["metrics"])
    if len(set(labels)) != len(labels):
        return "task has a label twice"
    if outputs != (len(labels) or 1):
        return f"outputs is {outputs}, the task has other labels"
    if metrics & {"pearson", "spearman"} if labels else metrics - {"pearson", "spearman"}:
        return f"task has the metrics {short(task['metrics'])}, its labels do not fit"
    if "f1" in metrics and len(labels) != 2:
        return f"task has the metric f1 and {len(labels)} labels, expected 2"
    if sorted(content["teacher"]["output_order"]) != [*range(outputs)]:
        return f"teacher: output_order is {short(content['teacher']['output_order'])}"
    if content["tokenizer"]["pad_id"] >= content["tokenizer"]["vocab_size"]:
        return f"tokenizer: pad_id is {content['tokenizer']['pad_id']}, beyond its vocab_size"
    return None


def _layers(content: Mapping[str, Any]) -> str | None:
    layers = content["layers"]
    if layers != sorted(set(layers)) or layers[-1] > content["teacher"]["layers"]:
        return f"layers is {short(layers)} of a teacher with {content['teacher']['layers']}"
    if set(content["measured_error"]["layers"]) != {str(layer) for layer in layers}:
        return "measured_error is of other layers"
    return None


def _splits(content: Mapping[str, Any]) -> str | None:
    """Counts that fit each other, and the bytes of the tokens, before anything is sized by them."""
    if not content["splits"]:
        return "it has no splits"
    for name, split in content["splits"].items():
        if not SPLIT_NAME.fullmatch(name):
            return f"splits has the name {short(name)}"
        rows, tokens = split["rows"], split["tokens"]
        if split["labelled_rows"] > rows:
            return f"splits: {name} has more labelled rows than rows"
        entry = content["files"].get(f"{name}/{EXAMPLES}")
        least = LEAST_ROW_BYTES * rows + LEAST_TOKEN_BYTES * tokens
        most = MOST_ROW_BYTES * rows + MOST_TOKEN_BYTES * tokens + MOST_OTHER_BYTES
        if entry is None or not least <= entry["size"] <= most:
            return f"splits: {name}/{EXAMPLES} cannot hold {rows:,} rows of {tokens:,} tokens"
        if not rows <= tokens <= rows * content["max_length"]:
            return f"splits: {name} has {rows:,} rows of {tokens:,} tokens"
        if problem := _histogram(split):
            return f"splits: {name} has {problem}"
    return None


def _histogram(split: Mapping[str, Any]) -> str | None:
    """Its bins are powers of two and hold all rows."""
    bins = split["length_histogram"]
    known = {str(1 << power) for power in range(25)}
    if odd := bins.keys() - known:
        return f"a length histogram with the bin {short(min(odd))}"
    if sum(bins.values()) != split["rows"]:
        return "a length histogram of other rows"
    return None


def _file_list(content: Mapping[str, Any]) -> str | None:
    """The files are those of the splits, and no others."""
    files = content["files"]
    for name in files:
        try:
            require_inside(name, "files")
        except CacheCorruptError:
            return f"files has the name {short(name)}"
    shard_rows, dtype = content["shard_rows"], content["dtype"]
    more = {name: optional_arrays(name, content["arrays"]) for name in content["splits"]}
    expected = 1  # counted first: a made-up number of rows must not become a list
    for name, split in content["splits"].items():
        arrays = len(arrays_of(dtype)) + len(more[name])
        expected += 2 + arrays * (1 + shard_count(split["rows"], shard_rows))
    if expected == len(files):
        names = {METADATA}
        for name, split in content["splits"].items():
            names.update(split_files(name, split["rows"], shard_rows, dtype, more[name]))
        if names == files.keys():
            return None
    return "files does not list the files of its own splits"


def _arrays(content: Mapping[str, Any]) -> str | None:
    expected: dict[str, Any] = {}
    for split, info in content["splits"].items():
        for spec in array_specs(**shape_of(content, split), rows=info["rows"]).values():
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
        specs = array_specs(**shape_of(content, split), rows=info["rows"])
        shards = shard_count(info["rows"], content["shard_rows"])
        if digests[split].keys() != specs.keys():
            return f"row_digests: {split} has other arrays"
        for array, rows in digests[split].items():
            width = layers if array == CLS else 1
            if len(rows) != shards or any(len(each) != width for each in rows):
                return f"row_digests: {split}/{array} is of another shape"
    return None


def _sizes(content: Mapping[str, Any]) -> str | None:
    """Sizes that the files can have; the arrays then take memory that the files account for."""
    files, shard_rows = content["files"], content["shard_rows"]
    for name, entry in files.items():
        if name.endswith(METADATA) and entry["size"] > LARGEST_METADATA:
            return f"files: {name} has {entry['size']:,} bytes"
    for split, info in content["splits"].items():
        shards = range(shard_count(info["rows"], shard_rows))
        for spec in array_specs(**shape_of(content, split), rows=info["rows"]).values():
            names = [shard_file(split, spec.name, shard) for shard in shards]
            sizes = [files[name]["size"] for name in names]
            for name, size in zip(names, sizes, strict=True):
                if not spec.index_bytes < size <= spec.most_file_bytes:
                    return f"files: {name} cannot have {size:,} bytes"
            if problem := _volume(content, f"{split}/{spec.name}", spec, sizes):
                return problem
    return None


def _volume(content: Mapping[str, Any], path: str, spec: ArraySpec, sizes: list[int]) -> str | None:
    total = sum(sizes)
    if spec.raw_bytes > max(SMALL_BYTES, MOST_EXPANSION * total):
        return f"arrays: {path} takes {spec.raw_bytes:,} bytes, its files hold {total:,}"
    if spec.name == CLS:
        chunks = total - len(sizes) * spec.index_bytes
        if sum(content["arrays"][path]["layer_bytes"]) != chunks:
            return f"arrays: {path} has a layer_bytes that is not that of its files"
    return None


def shape_of(content: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The arguments of `array_specs` but the rows."""
    return {
        "layers": len(content["layers"]),
        "hidden": content["hidden_size"],
        "outputs": content["outputs"],
        "dtype": content["dtype"],
        "shard_rows": content["shard_rows"],
        "optional": optional_arrays(split, content["arrays"]),
    }


def short(value: object) -> str:
    """One short line, whatever the value is."""
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()[:60]
