"""An output that exists: the same as would be made, or another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.digests import digest_file
from pipeline.errors import DataError, OutputExistsError
from pipeline.files import read_json

DIFFERENCES_SHOWN = 3
LONGEST_VALUE_SHOWN = 40  # characters
OFF: tuple[Any, ...] = (None, False, 0, "", "none", [], {})
"""Values of parameters that ask for nothing; records from before such a one came do not name it."""


def must_build(
    target: Path, record_name: str, record: Mapping[str, Any], *, overwrite: bool
) -> bool:
    """Whether a folder is to be built; False when its record has these values already.

    Args:
        target: the output folder.
        record_name: the JSON file that says what the folder is.
        record: what it would say, as JSON values; other keys that it has are results. A parameter
            that one side does not name is the same when it asks for nothing on the other (0, none).
        overwrite: replace an output that came from other inputs.

    Raises:
        OutputExistsError: it came from other inputs (names what differs) and `overwrite` is off,
            or it is nothing that this command made, which is never replaced.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return True
    if not (target / record_name).is_file():
        raise OutputExistsError(
            f"{target}: is there and has no {record_name}, so this command did not make it and "
            "will not replace it. Choose another --out."
        )
    content = _json_or_none(target / record_name)
    found = {key: content.get(key) for key in record} if isinstance(content, dict) else None
    if not _differences(found, record):
        return False
    if not overwrite:
        raise OutputExistsError(
            f"{target}: holds something else ({_in_short(_differences(found, record))}). "
            "Add --overwrite to replace it, or choose another --out."
        )
    return True


def has_weights(folder: Path) -> bool:
    """Whether a model's folder holds any; records do not state their digest."""
    return any(folder.glob("*.safetensors"))


def damaged_file(
    folder: Path, files: Mapping[str, Mapping[str, Any]], *, thorough: bool
) -> str | None:
    """The first file of a folder that is not what its record says; None when all are.

    Args:
        folder: the output.
        files: name in it -> size (bytes) and sha256.
        thorough: compare the digests too, not the sizes alone.
    """
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["size"]:
            return name
        if thorough and digest_file(path) != entry["sha256"]:
            return name
    return None


def _json_or_none(path: Path) -> Any:
    try:
        return read_json(path)
    except DataError:
        return None


def _differences(found: Any, wanted: Any, place: str = "") -> dict[str, str]:
    """Each leaf at which two JSON values differ -> both values, in words."""
    if not (isinstance(found, Mapping) and isinstance(wanted, Mapping)):
        texts = [json.dumps(value)[:LONGEST_VALUE_SHOWN] for value in (found, wanted)]
        return {} if found == wanted else {place or "record": "{} there, {} now".format(*texts)}
    differences: dict[str, str] = {}
    for key in {**wanted, **found}:
        if (key not in found and wanted[key] in OFF) or (key not in wanted and found[key] in OFF):
            continue
        inner = f"{place}.{key}" if place else str(key)
        differences |= _differences(found.get(key), wanted.get(key), inner)
    return differences


def _in_short(differences: Mapping[str, str]) -> str:
    """The first few differences; a digest says nothing beside what it is the digest of."""
    telling = {key: text for key, text in differences.items() if not key.endswith("digest")}
    parts = [f"{key}: {text}" for key, text in (telling or differences).items()]
    more = len(parts) - DIFFERENCES_SHOWN
    return "; ".join(parts[:DIFFERENCES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
