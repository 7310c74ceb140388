"""What differs between two caches, and by how much: identity, rows, values of the common rows.

Shapes: P rows that both caches have, R of them in a shard, H hidden size, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.progress import Tick, silent
from pipeline.store.describe import split_order
from pipeline.store.distance import cosine_distance, relative_l2
from pipeline.store.format import OUT_OF_FOLD
from pipeline.store.manifest import Manifest
from pipeline.store.pairs import Pairs, pair_rows
from pipeline.store.reader import TeacherCache

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class SplitDifference:
    """One split that both caches have. Rows are the same when the teacher reads the same."""

    rows_a: int
    rows_b: int
    rows_both: int
    """Pairs of the same row; a row that is twice in both is two pairs."""
    only_a: int
    only_b: int
    labels_changed: int
    """Pairs with another label."""
    ids_changed: int
    """Pairs with another example_id."""
    moved: int
    """Pairs at another place of the split."""
    logits_abs_max: float | None
    """Largest absolute difference of a logit over the pairs; None = not compared."""
    classes_changed: int | None
    """Pairs whose largest logit is another class; None = not compared, or regression."""


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """[CLS] of one layer over the pairs of all splits; lengths are relative to A's vector."""

    relative_l2_max: float
    relative_l2_mean: float
    cosine_distance_max: float
    cosine_distance_mean: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two caches, A and B."""

    identical: bool
    """Their content digests agree, so that nothing that a sound cache holds can differ."""
    fields: dict[str, tuple[Any, Any]]
    """What they are made from, and how, where that differs -> both values; None = has none."""
    splits: dict[str, SplitDifference]
    """Splits that both have; {} of identical caches."""
    splits_only_a: tuple[str, ...]
    splits_only_b: tuple[str, ...]
    layers: dict[int, LayerDifference]
    """Layers that both have; {} when they are not compared, and of identical caches."""
    not_compared: tuple[str, ...]
    """What cannot be compared, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def diff_caches(one: TeacherCache, other: TeacherCache, tick: Tick = silent) -> Difference:
    """Compare two caches; nothing but the manifests is read when those agree.

    [CLS] is read layer by layer: of A one shard, of B one layer of a split in memory (or in a
    memory map, where it does not fit).

    Args:
        one: A.
        other: B.
        tick: told of layers.

    Raises:
        CacheCorruptError: damage in what is read.
    """
    a, b = one.manifest, other.manifest
    identical = a.content_digest == b.content_digest
    names = split_order({*a.splits, *b.splits})
    common = [] if identical else [name for name in names if name in a.splits and name in b.splits]
    pairs = {name: pair_rows(one.examples(name), other.examples(name)) for name in common}
    obstacles = {} if identical else _obstacles(a, b, pairs)
    layers = () if {"values", "[CLS]"} & obstacles.keys() else _common_layers(a, b)
    measured = _layers(one, other, layers, pairs, tick) if pairs else {}
    logits = "logits" not in obstacles
    return Difference(
        identical=identical,
        fields=different_fields(a, b),
        splits={name: _split(one, other, name, pairs[name], logits) for name in pairs},
        splits_only_a=tuple(name for name in names if name not in b.splits),
        splits_only_b=tuple(name for name in names if name not in a.splits),
        layers=measured,
        not_compared=tuple(f"{what}: {why}" for what, why in obstacles.items()),
    )


def different_fields(a: Manifest, b: Manifest) -> dict[str, tuple[Any, Any]]:
    """What two caches are made from, and how, where that differs: name -> value of A and of B."""
    one, other = _identity(a), _identity(b)
    return {
        name: (one.get(name), other.get(name))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    }


def _identity(m: Manifest) -> dict[str, Any]:
    """Everything about a cache but its rows, sizes, scores and errors, in words of people."""
    names = {"name": "task", "label_names": "labels"}
    task = {names.get(key, key.replace("_", " ")): value for key, value in m.task.items()}
    return {
        **task,
        "teacher": m.teacher["name"],
        "teacher's digest": m.teacher["digest"],
        "teacher's layers": m.teacher["layers"],
        "teacher's output order": m.teacher["output_order"],
        "tokenizer": m.tokenizer["name"],
        "tokenizer's digest": m.tokenizer["digest"],
        "vocabulary": m.tokenizer["vocab_size"],
        "data": m.data_digest,
        "max length": m.max_length,
        "layers": list(m.layers),
        "hidden size": m.hidden_size,
        "stored type": m.dtype,
        "computed in": m.compute,
        "out-of-fold logits of": [split for split in m.splits if OUT_OF_FOLD in m.specs(split)],
        "rows per shard": m.shard_rows,
        "tokens per batch": m.batch_tokens,
        "reused rows": m.reused["rows"],
        **{f"{name} (library)": version for name, version in m.versions.items()},
        "cache id": m.cache_id,
        "content": m.content_digest,
    }


def _obstacles(a: Manifest, b: Manifest, pairs: Mapping[str, Pairs]) -> dict[str, str]:
    """What cannot be compared -> why."""
    if not any(map(len, pairs.values())):
        return {"values": "no row is in both; the texts are others, or tokenised in another way"}
    found = {}
    if a.hidden_size != b.hidden_size:
        found["[CLS]"] = f"hidden sizes are {a.hidden_size} and {b.hidden_size}"
    elif not _common_layers(a, b):
        found["[CLS]"] = "no layer is in both"
    if a.task["label_names"] != b.task["label_names"]:
        found["logits"] = "the labels are others, or in another order"
    return found


def _common_layers(a: Manifest, b: Manifest) -> tuple[int, ...]:
    return tuple(layer for layer in a.layers if layer in b.layers)


def _split(
    one: TeacherCache, other: TeacherCache, name: str, pairs: Pairs, compares_logits: bool
) -> SplitDifference:
    rows_a, rows_b, both = one.split(name).rows, other.split(name).rows, len(pairs)
    largest, changed = None, None
    if compares_logits and both:
        a_PK, b_PK = one.logits(name)[pairs.a_P], other.logits(name)[pairs.b_P]
        largest = float(np.abs(a_PK.astype(np.float64) - b_PK).max())
        if a_PK.shape[1] > 1:
            changed = int((a_PK.argmax(-1) != b_PK.argmax(-1)).sum())
    return SplitDifference(
        rows_a=rows_a,
        rows_b=rows_b,
        rows_both=both,
        only_a=rows_a - both,
        only_b=rows_b - both,
        labels_changed=pairs.labels_changed,
        ids_changed=pairs.ids_changed,
        moved=int((pairs.a_P != pairs.b_P).sum()),
        logits_abs_max=largest,
        classes_changed=changed,
    )


def _layers(
    one: TeacherCache,
    other: TeacherCache,
    layers: Sequence[int],
    pairs: Mapping[str, Pairs],
    tick: Tick,
) -> dict[int, LayerDifference]:
    found = {}
    for done, layer in enumerate(layers):
        tick("layers", done, len(layers))
        found[layer] = _layer(one, other, layer, pairs)
    if layers:
        tick("layers", len(layers), len(layers))
    return found


def _layer(
    one: TeacherCache, other: TeacherCache, layer: int, pairs: Mapping[str, Pairs]
) -> LayerDifference:
    """Sums and largest values over shards; a shard's sum is exact enough in float64."""
    distances = {"relative_l2": relative_l2, "cosine_distance": cosine_distance}
    largest, total = dict.fromkeys(distances, 0.0), dict.fromkeys(distances, 0.0)
    for split, of_split in pairs.items():
        for a_RH, b_RH in _vectors(one, other, split, layer, of_split):
            for name, distance in distances.items():
                found_R = distance(a_RH, b_RH)
                largest[name] = max(largest[name], float(found_R.max()))
                total[name] += float(found_R.sum())
    count = sum(map(len, pairs.values()))
    return LayerDifference(
        relative_l2_max=largest["relative_l2"],
        relative_l2_mean=total["relative_l2"] / count,
        cosine_distance_max=largest["cosine_distance"],
        cosine_distance_mean=total["cosine_distance"] / count,
    )


def _vectors(
    one: TeacherCache, other: TeacherCache, split: str, layer: int, pairs: Pairs
) -> Iterator[tuple[Array, Array]]:
    """[CLS] of pairs, by shard of A: (R, H) of A and of B."""
    if not len(pairs):
        return
    of_b = other.stored(split, [layer])
    for rows, of_a in one.shards(split, [layer]):
        here = slice(*np.searchsorted(pairs.a_P, [rows.start, rows.stop]))
        if here.start < here.stop:
            a_R, b_R = pairs.a_P[here] - rows.start, pairs.b_P[here]
            yield of_a[a_R].decode()[:, 0], of_b[b_R].decode()[:, 0]
