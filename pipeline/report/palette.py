"""One look for all pictures: a colour and a marker per strategy, the same in every panel.

Light-mode colours are drawn; the page swaps them for dark-mode ones by CSS variables. Colour never
stands alone: every series also has a marker and a direct label.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.report.tables import strategy_rank


@dataclass(frozen=True)
class Ink:
    """One colour of the page: on white paper, and on a dark screen."""

    name: str
    light: str
    dark: str


@dataclass(frozen=True)
class Style:
    """How a strategy is drawn."""

    ink: Ink
    marker: str

    @property
    def color(self) -> str:
        """The colour that pictures are drawn in."""
        return self.ink.light


TEXT = Ink("text", "#1d2630", "#e7eaee")
MUTED = Ink("muted", "#5c6672", "#9ea8b4")
GRID = Ink("grid", "#e4e7eb", "#30363e")
NEUTRALS = (TEXT, MUTED, GRID)

STYLES = {
    "finetune": Style(Ink("finetune", "#6b7684", "#a9b4c1"), "o"),
    "kd": Style(Ink("kd", "#b05a00", "#f0a85e"), "s"),
    "skip": Style(Ink("skip", "#0061a9", "#63b6f6"), "D"),
    "last": Style(Ink("last", "#00795c", "#46cfa5"), "^"),
    "reverse": Style(Ink("reverse", "#b8479e", "#e884cf"), "v"),
    "all-to-one": Style(Ink("all-to-one", "#5c4a00", "#f3e493"), "P"),
    "emd": Style(Ink("emd", "#c92f26", "#ff7d73"), "X"),
    "rail": Style(Ink("rail", "#2b2670", "#cfcdff"), "<"),
    "alp": Style(Ink("alp", "#0b4652", "#b4f0f8"), ">"),
}
TEACHER_STYLE = Style(TEXT, "*")
SPARE = (
    Style(Ink("spare-1", "#7d4b2e", "#d8a585"), "h"),
    Style(Ink("spare-2", "#547800", "#b1d55a"), "p"),
    Style(Ink("spare-3", "#bd1c5c", "#ff88b4"), "d"),
    Style(Ink("spare-4", "#33475b", "#b7c8da"), "8"),
)


def styles_for(strategies: Iterable[str]) -> dict[str, Style]:
    """A style for each strategy: its own, or a spare one in the order of the names."""
    spare = 0
    found: dict[str, Style] = {}
    for strategy in sorted(set(strategies), key=strategy_rank):
        if strategy in STYLES:
            found[strategy] = STYLES[strategy]
        else:
            found[strategy] = SPARE[spare % len(SPARE)]
            spare += 1
    return found


def all_inks() -> list[Ink]:
    """Every colour that a picture can contain and that the page can swap."""
    return [*NEUTRALS, *(s.ink for s in STYLES.values()), *(s.ink for s in SPARE)]
