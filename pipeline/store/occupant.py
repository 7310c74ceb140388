"""What is at the target of a copy: the same cache, another one, an unfinished copy, or no cache."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pipeline.errors import CacheError, OutputExistsError
from pipeline.store.format import (
    CLS,
    CLS_SCALE,
    EXAMPLES,
    FORMAT,
    LOGITS,
    MANIFEST,
    METADATA,
    OUT_OF_FOLD,
)
from pipeline.store.manifest import LARGEST_MANIFEST, Manifest
from pipeline.store.place import LocalPlace, Place
from pipeline.store.remote import RemotePlace

OURS = f'"format":"{FORMAT}"'.encode()  # in every manifest, of any version, damaged or not
FILE_OF_A_CACHE = re.compile(
    rf"{METADATA}|[a-z][a-z0-9_]*/({METADATA}|{EXAMPLES}|"
    rf"({CLS}|{CLS_SCALE}|{LOGITS}|{OUT_OF_FOLD})/({METADATA}|c/\d+/0(/0)?))".replace(".", r"\.")
)
SHOWN = 3  # differences


def holds(goal: Place, manifest: Manifest, *, overwrite: bool) -> bool:
    """Whether the target is this cache already; raises OutputExistsError when it is in the way."""
    raw = None
    if goal.size(MANIFEST) is not None:
        raw = goal.read(MANIFEST, 0, LARGEST_MANIFEST + 1)
    if raw is None or _is_cut_off(goal, raw, manifest):
        _require_room(goal, manifest, overwrite=overwrite)
        return False
    if OURS not in raw:
        raise OutputExistsError(_no_cache(goal, f"its {MANIFEST} is not of a teacher cache"))
    problem = _difference(goal, raw, manifest)
    if problem is None and overwrite:
        problem = _other_bytes(goal, manifest)
    if problem is None:
        return True
    if overwrite:
        return False
    raise OutputExistsError(
        f"{goal.text}: holds {problem}. Add --overwrite to replace it, or choose another target."
    )


def _is_cut_off(goal: Place, raw: bytes, manifest: Manifest) -> bool:
    """Whether it is the beginning of a manifest: not every storage writes a file at once."""
    whole = manifest.to_bytes()
    return isinstance(goal, RemotePlace) and raw != whole and whole.startswith(raw)


def _require_room(goal: Place, manifest: Manifest, *, overwrite: bool) -> None:
    """Refuse what is there without a manifest, but for an unfinished copy at a URL.

    One that was to replace another cache leaves files of that; `overwrite` takes those too.
    """
    if isinstance(goal, LocalPlace):
        if goal.exists() and not goal.path.is_dir():
            raise OutputExistsError(_no_cache(goal, "it is no folder"))
        strange = sorted(path.name for path in goal.path.iterdir()) if goal.exists() else []
    else:
        strange = sorted(goal.sizes().keys() - manifest.files.keys() - {MANIFEST})
        if overwrite:
            strange = [name for name in strange if not FILE_OF_A_CACHE.fullmatch(name)]
    if strange:
        shown = ", ".join(ascii(name)[1:-1][:80] for name in strange[:SHOWN])
        more = f" and {len(strange) - SHOWN:,} more" if len(strange) > SHOWN else ""
        raise OutputExistsError(_no_cache(goal, f"it has {shown}{more} and no {MANIFEST}"))


def _no_cache(goal: Place, why: str) -> str:
    return (
        f"{goal.text}: is there and is no finished cache ({why}), so it is never replaced. Choose "
        "another target, or remove it yourself."
    )


def _difference(goal: Place, raw: bytes, manifest: Manifest) -> str | None:
    """How a cache differs from what it must be, by manifest and sizes; None when it does not."""
    if raw != manifest.to_bytes():
        try:
            return f"another cache ({_in_short(Manifest.from_bytes(raw, goal.text), manifest)})"
        except CacheError:
            return "a cache whose manifest is damaged or of another version"
    there = goal.sizes()
    for name, size in manifest.sizes.items():
        if (found := there.get(name)) != size:
            state = "missing" if found is None else f"{found:,} bytes, expected {size:,}"
            return f"this cache, damaged ({name}: {state})"
    return None


def _other_bytes(goal: Place, manifest: Manifest) -> str | None:
    for name, entry in manifest.files.items():
        if goal.digest(name) != entry["sha256"]:
            return f"this cache, damaged ({name}: other bytes)"
    return None


def _in_short(there: Manifest, now: Manifest) -> str:
    """The first few differences that say something to a person."""
    facts: dict[str, Callable[[Manifest], Any]] = {
        "task": lambda m: m.task["name"],
        "teacher": lambda m: m.teacher["name"],
        "dtype": lambda m: m.dtype,
        "layers": lambda m: ",".join(map(str, m.layers)),
        "max length": lambda m: m.max_length,
        "rows": lambda m: sum(split.rows for split in m.splits.values()),
        "content": lambda m: m.content_digest[:12],
    }
    both = {name: (fact(there), fact(now)) for name, fact in facts.items()}
    parts = [f"{name} {a} there, {b} now" for name, (a, b) in both.items() if a != b]
    return "; ".join(parts[:SHOWN])
