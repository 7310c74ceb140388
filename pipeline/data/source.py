"""What a source gives: typed splits, and a name without any path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.data.table import Split


@dataclass(frozen=True)
class Source:
    """All splits of one source."""

    kind: str
    """hub, glue, files or demo."""
    name: str
    """Hub id, or the folder's own name; never a path."""
    splits: Mapping[str, Split]
