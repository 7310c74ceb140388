"""Presets: named bundles of parameters from the literature, as YAML with their deviations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError, did_you_mean

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Preset:
    """One bundle."""

    name: str
    description: str
    source: str
    deviations: tuple[str, ...]
    """What differs from the publication, each in a sentence."""
    sections: dict[str, Any]
    """Section -> {"params": {...}, "tasks": {task: {...}}}."""
    grid: dict[str, list[Any]]
    """Values that the authors searched, by parameter."""

    def values(self, section: str, task: str | None) -> dict[str, Any]:
        """Parameters of a command for a task."""
        of_section = self.sections.get(section, {})
        of_task = (of_section.get("tasks") or {}).get(task) or {}
        return {**(of_section.get("params") or {}), **of_task}


def preset_names() -> list[str]:
    """All of them."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Read a preset; raises ParamsError for a name that there is not."""
    import yaml

    names = preset_names()
    if name not in names:
        raise ParamsError(
            f"Unknown preset `{name}`.{did_you_mean(name, names)} Expected {', '.join(names)}."
        )
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    return Preset(
        name=name,
        description=content["description"],
        source=content["source"],
        deviations=tuple(content["deviations"]),
        sections={key: content[key] for key in ("teacher", "student") if key in content},
        grid=content.get("grid") or {},
    )
