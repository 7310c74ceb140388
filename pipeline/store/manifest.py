"""The manifest: what a cache is, what is in it, and the digest of every part.

Pure Python on purpose: `pkd-cache info` reads it without loading a numeric library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.digests import digest_json
from pipeline.errors import CacheCorruptError, CacheError
from pipeline.files import canonical_json
from pipeline.store.format import FORMAT, FORMAT_VERSION, MANIFEST, ArraySpec, array_specs
from pipeline.store.place import Place, place_of
from pipeline.store.validate import require_valid, shape_of, short

LARGEST_MANIFEST = 1 << 25  # bytes; that of MNLI takes about half a million
LEAST_PART_BYTES = 32  # of a manifest, for each list and object in it; ours take about a hundred
SMALL_MANIFEST = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of the cache."""

    rows: int
    tokens: int
    """Of all rows, without padding."""
    labelled_rows: int
    length_histogram: dict[str, int]
    """Rows by length in tokens: the upper end of a power-of-two bin -> rows."""
    digest: str
    """Over example ids, row digests and labels, in order."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a cache says of itself; `to_bytes` and `from_bytes` are inverses."""

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    task: dict[str, Any]
    """`pipeline.tasks.Task.to_dict()`: name, columns, label names in order, metrics."""
    teacher: dict[str, Any]
    """name, digest of weights and configuration, layers, base checkpoint, parameters, output_order;
    scores by split, and agreement: the share of labelled rows whose largest logit is the label."""
    tokenizer: dict[str, Any]
    """name, digest, pad_id, vocab_size."""
    data_digest: str
    max_length: int
    """In tokens."""
    layers: tuple[int, ...]
    """Cached teacher layers, increasing, counted from 1."""
    hidden_size: int
    outputs: int
    """Logits per row."""
    dtype: str
    """Stored type of [CLS]."""
    compute: str
    """Type the teacher computed in."""
    shard_rows: int
    batch_tokens: int
    splits: dict[str, Split]
    arrays: dict[str, dict[str, Any]]
    """Path of each array -> {"shape", "dtype"}, for [CLS] "layer_bytes" too: compressed bytes of
    each layer; an optional array of a later build stands here."""
    measured_error: dict[str, Any]
    """Stored values against a float32 forward of sampled rows: rows, and per layer the largest and
    mean relative L2 error and cosine distance; the largest absolute error of the logits."""
    reused: dict[str, Any]
    """rows that came from an earlier cache by `--reuse`, and its content_digest (null: none)."""
    row_digests: dict[str, dict[str, list[list[str]]]]
    """split -> "cls" -> shard -> layer, and split -> "logits" (and "cls_scale" of int8) -> shard ->
    [one]: sha256 of the decoded rows."""
    files: dict[str, dict[str, Any]]
    """Path inside the cache -> {"sha256", "size"} of every file but this one."""
    versions: dict[str, str]
    """Libraries that the bytes depend on."""
    cache_id: str
    """sha256 of the identity: teacher, tokenizer, data and every option that changes values."""
    content_digest: str = ""
    """sha256 of the canonical manifest without this field."""

    @property
    def total_bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(int(entry["size"]) for entry in self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"layers": list(self.layers)}

    def specs(self, split: str) -> dict[str, ArraySpec]:
        """What the arrays of a split are, by name."""
        return array_specs(**shape_of(self.__dict__, split), rows=self.splits[split].rows)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file but the manifest, by name."""
        return {name: int(entry["size"]) for name, entry in self.files.items()}

    def sealed(self) -> Manifest:
        """The same manifest with its content digest."""
        return type(self)(**(self._fields() | {"content_digest": self._digest()}))

    def to_bytes(self) -> bytes:
        """The canonical bytes of the file."""
        return canonical_json(self.to_dict())

    def _fields(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def _digest(self) -> str:
        content = self.to_dict()
        del content["content_digest"]
        return digest_json(content)

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Manifest:
        """Parse and check a manifest.

        Raises:
            CacheError: another format or version.
            CacheCorruptError: not JSON, not canonical, malformed, or not what its digest says.
        """
        content = _parsed(raw, where)
        _require_version(content, where)
        try:
            names = {each.name for each in fields(cls)}
            if set(content) != names:
                odd = ascii(", ".join(sorted(set(content) ^ names)))[1:60]
                raise CacheCorruptError(f"{where}: fields missing or unknown: {odd}.")
            require_valid(content, where)
            splits = {str(name): Split(**split) for name, split in content["splits"].items()}
            layers = tuple(content["layers"])
            manifest = cls(**{**content, "splits": splits, "layers": layers})
        except (TypeError, AttributeError) as error:
            raise CacheCorruptError(f"{where}: malformed manifest ({error}).") from None
        if manifest.to_bytes() != raw:
            raise CacheCorruptError(f"{where}: not in canonical form; it was edited or damaged.")
        if manifest.content_digest != manifest._digest():
            raise CacheCorruptError(f"{where}: its content_digest does not match its content.")
        return manifest


def read_manifest(cache: Place | Path | str) -> Manifest:
    """Read the manifest of a cache at a place, a path or a URL.

    Raises:
        CacheError: no cache there, or one that was never finished.
        CacheCorruptError: a damaged manifest.
    """
    place = place_of(cache) if isinstance(cache, Path | str) else cache
    size = place.size(MANIFEST)
    if size is None:
        raise CacheError(_missing(place))
    if size > LARGEST_MANIFEST:
        raise CacheCorruptError(f"{place.text}/{MANIFEST}: {size:,} bytes, too large to be one.")
    return Manifest.from_bytes(place.read(MANIFEST), f"{place.text}/{MANIFEST}")


def _missing(place: Place) -> str:
    build = "build it with `pkd-cache build --task TASK`, or fetch it with `dvc pull`"
    if not place.exists():
        return f"{place.text}: no such cache; {build}."
    if MANIFEST in place.sizes():
        return (
            f"{place.text}: its {MANIFEST} is a link, and a cache holds plain files. If DVC made "
            "it: `dvc config cache.type hardlink,copy`, then `dvc checkout --relink`."
        )
    return f"{place.text}: not a finished cache (it has no {MANIFEST}); {build}."


def _parsed(raw: bytes, where: str) -> dict[str, Any]:
    # millions of empty lists are small, and take a parser gigabytes and minutes
    if (raw.count(b"[") + raw.count(b"{")) * LEAST_PART_BYTES > len(raw) + SMALL_MANIFEST:
        raise CacheCorruptError(f"{where}: not a manifest; it has too many lists.")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CacheCorruptError(f"{where}: not valid JSON ({error}).") from None
    if not isinstance(content, dict):
        raise CacheCorruptError(f"{where}: expected a JSON object.")
    return content


def _require_version(content: Mapping[str, Any], where: str) -> None:
    if content.get("format") != FORMAT:
        found = short(content.get("format"))
        raise CacheError(f"{where}: not a teacher cache (format {found}).")
    if content.get("format_version") != FORMAT_VERSION:
        raise CacheError(
            f"{where}: cache format {short(content.get('format_version'))}, this pkd reads "
            f"{FORMAT_VERSION}; rebuild it with `pkd-cache build`, or update pkd."
        )
