"""The figures of papers, from `published.yaml`, as Markdown. Pure but for reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.results.tables import markdown_table

PUBLISHED = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A table as it is printed at its source."""

    title: str
    about: str
    """What a figure is: split, metric, how it was selected."""
    source: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    """Figures as texts, so that no digit is added or lost; `-` where there is none."""
    steps: str = ""
    """What the commands do, and which part of the table they are for."""
    commands: str = ""
    """That make such figures with this project."""


def load_published(path: Path = PUBLISHED) -> tuple[Published, ...]:
    """Read them."""
    return tuple(_parse(each) for each in yaml.safe_load(path.read_text("utf-8")))


def _parse(content: dict[str, object]) -> Published:
    texts = {key: str(content.get(key, "")) for key in ("title", "about", "source", "steps")}
    columns = str(content["columns"]).split()
    rows = content["rows"]
    assert isinstance(rows, dict)
    figures = {name: tuple(str(row).split()) for name, row in rows.items()}
    for name, row in figures.items():
        assert len(row) == len(columns), f"{texts['title']}: {name} has {len(row)} figures"
    return Published(
        **{key: text.strip() for key, text in texts.items()},
        columns=tuple(columns),
        rows=figures,
        commands=str(content.get("commands", "")).strip(),
    )


def published_table(published: Published) -> str:
    """Its figures."""
    rows = [[name, *figures] for name, figures in published.rows.items()]
    return markdown_table(["", *published.columns], rows)
