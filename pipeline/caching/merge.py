"""Parts of a cache, built apart with `--shard I/N`, put together: no teacher, no computation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.batches import labels_of
from pipeline.caching.conclude import conclude
from pipeline.caching.plan import existing_cache
from pipeline.digests import digest_file
from pipeline.errors import CacheCorruptError, CacheError, CacheMismatchError, DataError
from pipeline.files import read_json
from pipeline.params import CacheParams
from pipeline.progress import Tick, silent
from pipeline.store.examples import describe, digests_fit, parse_examples
from pipeline.store.format import EXAMPLES
from pipeline.store.manifest import Manifest
from pipeline.store.plan import Plan
from pipeline.store.writer import PART, PART_FORMAT, CacheWriter
from pipeline.tasks import Task

REMEDY = "Build every part again with"  # merge has no --teacher-labels
PART_FIELDS = {"plan", "index", "count", "described", "splits", "records"}


@dataclass(frozen=True)
class Part:
    """One finished part."""

    folder: Path
    content: dict[str, Any]

    @property
    def index(self) -> int:
        """Which of them it is, from 0."""
        return int(self.content["index"])

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.content["count"])


def merge_parts(
    out: Path,
    folders: Sequence[Path],
    *,
    allow_weak_teacher: bool = False,
    overwrite: bool = False,
    tick: Tick = silent,
) -> tuple[Manifest, bool]:
    """Make a cache of all parts of one build; the bytes are those of a build by one process.

    Args:
        out: the cache's folder.
        folders: every part once, in any order; they stay as they are.
        allow_weak_teacher: see `pkd-cache build`.
        overwrite: replace a cache of another plan.
        tick: told of shards.

    Returns:
        The manifest, and whether the cache was there already.

    Raises:
        CacheError: a folder that is no part, is damaged, or parts that are missing.
        CacheMismatchError: parts of different builds; names the field.
        TeacherRefusedError, OutputExistsError, BusyError: as `build_cache`.
    """
    parts = [read_part(folder) for folder in folders]
    require_one_build(parts)
    first = parts[0].content
    plan, task = Plan.from_dict(first["plan"]), Task.from_dict(first["described"]["task"])
    if manifest := existing_cache(out, plan, overwrite):
        return manifest, True
    params = CacheParams(allow_weak_teacher=allow_weak_teacher)
    described = first["described"]
    with CacheWriter(out, plan, versions=described["versions"]) as writer:
        labels = {}
        for split, info in first["splits"].items():
            table = _examples(parts, split, info, task)
            writer.add_split(split, table)
            labels[split] = labels_of(table)
        _adopt_all(writer, parts, tick)
        return conclude(writer, task, described, labels, params, remedy=REMEDY), False


def read_part(folder: Path) -> Part:
    """Read what a part is; raises CacheError."""
    path = folder / PART
    if not path.is_file():
        raise CacheError(
            f"{folder}: not a finished part (it has no {PART}); build it with "
            "`pkd-cache build --task TASK --shard I/N`."
        )
    try:
        content = read_json(path)
    except DataError as error:
        raise CacheError(str(error)) from None
    if not isinstance(content, dict) or content.get("format") != PART_FORMAT:
        raise CacheError(f"{path}: not the record of a part of a cache.")
    if missing := PART_FIELDS - content.keys():
        raise CacheError(f"{path}: malformed, it lacks {', '.join(sorted(missing))}.")
    return Part(folder, content)


def require_one_build(parts: Sequence[Part]) -> None:
    """Check that parts are all of one build, each once.

    Raises:
        CacheMismatchError: they differ in anything; names it.
        CacheError: some are missing or there twice.
    """
    first = parts[0]
    for part in parts[1:]:
        for field in ("plan", "described", "splits", "count"):
            if difference := _difference(first.content[field], part.content[field], field):
                raise CacheMismatchError(
                    f"{part.folder}: not of the same build as {first.folder} ({difference}). "
                    "Build all parts from one teacher, one data folder, with one set of options "
                    "and the same library versions."
                )
    indices = sorted(part.index for part in parts)
    if len(set(indices)) < len(indices):
        twice = sorted({each for each in indices if indices.count(each) > 1})
        raise CacheError(f"Part {twice[0]} of {first.count} is there twice.")
    if missing := [each for each in range(first.count) if each not in indices]:
        shards = ", ".join(f"--shard {each}/{first.count}" for each in missing)
        raise CacheError(f"{len(missing)} of {first.count} parts are missing: {shards}.")


def _difference(one: Any, other: Any, place: str) -> str | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if found := _difference(one.get(key), other.get(key), f"{place}.{key}"):
                return found
        return None
    return None if one == other else f"{place}: {str(one)[:40]} and {str(other)[:40]}"


def _examples(parts: Sequence[Part], split: str, info: dict[str, Any], task: Task) -> Any:
    """The table of a split, from the first part; those of the others must be the same bytes.

    Raises:
        CacheError: one that is missing, or damaged; names it.
    """
    first, *others = [part.folder / split / EXAMPLES for part in parts]
    table, digest = _checked_examples(first, info, task), digest_file(first)
    for path in others:
        if not path.is_file():
            raise CacheError(f"{path}: missing; build that part again.")
        if digest_file(path) != digest:
            raise CacheError(f"{path}: damaged; build that part again with --overwrite.")
    return table


def _checked_examples(path: Path, info: dict[str, Any], task: Task) -> Any:
    """A table whose every row has the digest of its own tokens, and which is that of the record."""
    try:
        content = path.read_bytes()
    except OSError:
        raise CacheError(f"{path}: missing; build that part again.") from None
    again = "Build that part again with --overwrite."
    try:
        table = parse_examples(content, str(path), regression=task.is_regression, rows=info["rows"])
    except CacheCorruptError as error:
        raise CacheError(f"{error} {again}") from None
    if asdict(describe(table)) != info or not digests_fit(table):
        raise CacheError(
            f"{path}: damaged: its tokens or labels are not those that were written. {again}"
        )
    return table


def _adopt_all(writer: CacheWriter, parts: Sequence[Part], tick: Tick) -> None:
    total = sum(len(of_split) for part in parts for of_split in part.content["records"].values())
    done = 0
    for part in parts:
        for split, records in part.content["records"].items():
            for shard, record in records.items():
                if not writer.files.is_finished(split, int(shard)):
                    writer.files.adopt(split, int(shard), part.folder, record)
                done += 1
                tick("shards", done, total)
