"""Reading what an export says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.export.card import FLOAT_FILE, INT8_FILE
from pipeline.files import read_json
from pipeline.models.sizes import Sizes

RECORD = "export.json"
FORMAT = 1
FILES = {"float32": FLOAT_FILE, "int8": INT8_FILE}
"""Precision -> file of an export; the second only with `--int8`."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """A folder that `pkd-student export` made."""

    folder: Path
    student: str
    """Name of the model that was exported."""
    digest: str
    """Of its weights and configuration."""
    sizes: Sizes
    size_bytes: Mapping[str, int]
    """Of each file, by precision: a key of `FILES`."""
    scores: Mapping[str, Any]
    """Split to metric to value of each file, by precision; empty where no cache gave rows."""

    def path(self, precision: str) -> Path:
        """The ONNX file of a precision."""
        return self.folder / FILES[precision]


def read_export(folder: Path) -> Export:
    """Read and check an export's record.

    Raises:
        ModelError: the folder is no export, or its record lacks something (names it).
    """
    advice = "`pkd-student export STUDENT --onnx` makes one."
    if not (folder / RECORD).is_file():
        raise ModelError(f"{folder}: not an export (no {RECORD}); {advice}")
    content = read_json(folder / RECORD)
    try:
        if (content["kind"], content["format"]) != ("export", FORMAT):
            raise ModelError(
                f"{folder}: its {RECORD} is of another kind or format; this version reads format "
                f"{FORMAT}. {advice}"
            )
        student = content["student"]
        return Export(
            folder=folder,
            student=str(student["name"]),
            digest=str(student["digest"]),
            sizes=Sizes.from_dict(student["sizes"]),
            size_bytes={
                kind: int(content["files"][kind]["size_bytes"])
                for kind in FILES
                if kind in content["files"]
            },
            scores={
                kind: content["files"][kind].get("scores") or {}
                for kind in FILES
                if kind in content["files"]
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder}: {RECORD} lacks or misspells {error}; {advice}") from None
