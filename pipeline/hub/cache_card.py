"""The dataset card of caches, made from their manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.store.describe import derive, split_order
from pipeline.store.manifest import Manifest
from pipeline.tasks import GLUE_NAMES

MARK = "<!-- written by `pkd-cache push`; without this line it leaves the card alone -->"
GLUE = "nyu-mll/glue"
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
ABOUT = """\
What fine-tuned teachers say of every row of a task: their logits and, for each layer, the vector of
[CLS], with the tokens and labels they belong to. Students are distilled from it with no teacher in
memory. pkd made and reads it; so does anything that reads Zarr and Arrow."""
USE = """\
## Use

Only the layers that a strategy needs are fetched:

```
pkd-student fit --cache {url} --strategy skip
pkd-cache verify {url}
```

```python
from pipeline import TeacherCache

train = TeacherCache.open("{url}")["train"]
```"""
LICENCE = """\
## Licence

A cache holds the texts of its task as tokens, from which they can be read, and its labels: the
licence of the data applies to them, and that of the teacher to its outputs. Look at both before you
share it."""


def cache_card(
    repo: str,
    address: str,
    caches: Mapping[str, Manifest],
    license_name: str | None,
    before: str = "",
) -> str:
    """Markdown with a YAML head.

    Args:
        repo: user/name.
        address: `hf://` address of the repository's root.
        caches: folder in the repository -> its manifest.
        license_name: for the head; None = that of `before`.
        before: the card that this one replaces.
    """
    first = next(iter(caches))
    parts = [
        f"---\n{_metadata(repo, caches, license_name or _license_of(before))}\n---",
        MARK,
        f"# {repo}",
        ABOUT,
        *(_section(f"{address}/{name}", name, caches[name]) for name in sorted(caches)),
        USE.format(url=f"{address}/{first}"),
        LICENCE,
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(repo: str, caches: Mapping[str, Manifest], license_name: str | None) -> str:
    from huggingface_hub import DatasetCardData

    tasks = sorted({str(each.task["name"]) for each in caches.values()})
    regression = all(not each.task["label_names"] for each in caches.values())
    more = {} if not set(tasks) <= set(GLUE_NAMES) else {"source_datasets": [GLUE]}
    head = DatasetCardData(
        license=license_name,
        pretty_name=f"Teacher outputs: {repo.rpartition('/')[2]}",
        task_categories=["text-classification"],
        task_ids=["text-scoring"] if regression else None,
        size_categories=[_size(max(_rows(each) for each in caches.values()))],
        tags=["pkd", "knowledge-distillation", "teacher-outputs", "zarr", *tasks],
        viewer=False,  # its own reader knows no Zarr
        **more,
    )
    return str(head.to_yaml())


def _license_of(card: str) -> str | None:
    from huggingface_hub import DatasetCard

    if not card.startswith("---"):
        return None
    found = DatasetCard(card, ignore_metadata_errors=True).data.get("license")
    return None if found is None else str(found)


def _rows(manifest: Manifest) -> int:
    return sum(split.rows for split in manifest.splits.values())


def _size(rows: int) -> str:
    """The Hub's word for a number of rows."""
    place = max(0, len(str(rows)) - 3)
    return SIZES[min(place, len(SIZES) - 1)]


def _section(address: str, name: str, manifest: Manifest) -> str:
    teacher, figures = manifest.teacher, derive(manifest)
    base = (teacher.get("base") or {}).get("hub_id") or (teacher.get("base") or {}).get("name")
    rows: list[tuple[str, Any]] = [
        ("address", f"`{address}`"),
        ("task", f"`{manifest.task['name']}`: {_labels(manifest)}"),
        (
            "teacher",
            f"`{teacher['name']}`, {teacher['layers']} layers, digest `{teacher['digest']}`",
        ),
        ("started from", f"`{base}`" if base else "-"),
        ("scores of the teacher", _scores(teacher.get("scores") or {})),
        ("tokenizer", f"`{manifest.tokenizer['name']}`, digest `{manifest.tokenizer['digest']}`"),
        ("longest input", f"{manifest.max_length} tokens"),
        ("layers", f"{', '.join(map(str, manifest.layers))} of width {manifest.hidden_size}"),
        ("stored as", f"{manifest.dtype}, computed in {manifest.compute}"),
        ("size", f"{figures['total_bytes'] / 1e6:,.1f} MB in {len(manifest.files) + 1} files"),
        ("exactness", _exactness(manifest)),
        ("cache_id", f"`{manifest.cache_id}`"),
        ("content_digest", f"`{manifest.content_digest}`"),
    ]
    splits = [
        f"| {split} | {each.rows:,} | {each.labelled_rows:,} | {each.tokens:,} |"
        for split, each in ((key, manifest.splits[key]) for key in split_order(manifest.splits))
    ]
    return "\n".join(
        [
            f"## {name}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in rows),
            "",
            "| split | rows | labelled | tokens |",
            "|---|---:|---:|---:|",
            *splits,
        ]
    )


def _labels(manifest: Manifest) -> str:
    names = manifest.task["label_names"]
    return ", ".join(f"{index} = {name}" for index, name in enumerate(names)) or "a number"


def _scores(scores: Mapping[str, Mapping[str, float]]) -> str:
    return (
        "; ".join(
            f"{split} {', '.join(f'{metric} {value:.4f}' for metric, value in of_split.items())}"
            for split, of_split in scores.items()
        )
        or "-"
    )


def _exactness(manifest: Manifest) -> str:
    worst = max(
        (each["relative_l2_max"] for each in manifest.measured_error["layers"].values()),
        default=0.0,
    )
    return (
        f"a stored [CLS] vector differs from a float32 forward by at most {worst:.2g} of its "
        f"length ({manifest.measured_error['rows']:,} sampled rows)"
    )
