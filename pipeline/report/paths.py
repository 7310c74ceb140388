"""Names that are no paths, and texts without paths: a report says nothing of a machine."""

from __future__ import annotations

from pathlib import Path


def plain_name(name: str) -> bool:
    """Whether a name from a record is a name and no path."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def without_paths(error: object, *paths: Path) -> str:
    """An error's text with paths cut to their last names: reports hold no machine's paths."""
    text = str(error)
    for path in paths:
        for shown in (str(path.resolve()), str(path)):
            text = text.replace(shown, path.name)
    return text.rstrip(".")
