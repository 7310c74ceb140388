"""Numbers as people read them. Scores are shown in points (x 100)."""

from __future__ import annotations

from pipeline.report.tables import Sample

MINUS = "\N{MINUS SIGN}"
KEEP = "\N{NO-BREAK SPACE}"  # a number and its unit stay on one line


def points(value: float) -> str:
    """A score in points with one decimal: 0.6634 is `66.3`."""
    text = f"{100 * value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", MINUS)


def signed_points(value: float) -> str:
    """A difference of scores in points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", MINUS)


def mean_std(sample: Sample) -> str:
    """`66.3 ± 1.2`, or `66.3` where one run says nothing of the spread."""
    spread = "" if sample.std is None else f"{KEEP}±{KEEP}{100 * sample.std:.1f}"
    return points(sample.mean) + spread


def percent(share: float) -> str:
    """A share: 0.9421 is `94 %`."""
    return f"{100 * share:.0f}{KEEP}%"


def percent_fine(share: float) -> str:
    """A share with one decimal: 0.9421 is `94.2 %`."""
    return f"{100 * share:.1f}{KEEP}%"


def scaled(value: int, units: tuple[str, ...]) -> str:
    """Three digits and the unit, of units a thousandfold apart: 11.2 M."""
    size, rest = float(value), list(units)
    while abs(size) >= 999.5 and len(rest) > 1:
        size /= 1000
        rest.pop(0)
    digits = f"{size:.0f}" if rest[0] == units[0] or abs(size) >= 99.95 else f"{size:#.3g}"
    return f"{digits}{KEEP}{rest[0]}".strip()


def parameters(value: int) -> str:
    """`11.2 M`."""
    return scaled(value, ("", "k", "M", "G"))


def size(value: int) -> str:
    """Decimal bytes: `44.7 MB`."""
    return scaled(value, ("B", "kB", "MB", "GB", "TB"))


def rate(value: float) -> str:
    """`1,240`, `86`, `3.2`: something per second."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def seconds(value: float) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if value < 59.5:
        return f"{value:.1f}{KEEP}s" if value < 9.95 else f"{value:.0f}{KEEP}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{KEEP}min {whole % 60:02d}{KEEP}s"
    minutes = round(value / 60)
    return f"{minutes // 60:,}{KEEP}h {minutes % 60:02d}{KEEP}min"


def times(value: float) -> str:
    """`2.9×`."""
    return f"{value:.1f}×" if value < 9.95 else f"{value:.0f}×"


def counted(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number:,}{KEEP}{noun}" + ("" if number == 1 else "s")


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
