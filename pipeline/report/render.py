"""Templates in, the bytes of the two pages out."""

from __future__ import annotations

import html
import re
from typing import Any

from markupsafe import Markup

from pipeline.report.figures.svg import for_page
from pipeline.report.page import Page
from pipeline.report.palette import all_inks

# what Markdown or a table in it would take for markup; an underscore only at a word's edge
MARKDOWN = re.compile(r"[\\`*|\[\]#~]|(?<!\w)_|_(?!\w)")


GUIDE = """\
Scores are of the best epoch, which was chosen on the same validation rows: a little too good, for
all models alike.

± is the sample standard deviation over n seeds. The summary calls a gap within it no clear winner;
otherwise, Welch's t-test at 95 % decides its words. Where many strategies are compared, some gap is
always large: look at the dots, and train more seeds.

Runs of one strategy and depth that differ in more than the seed are rows of their own, named by
what differs.

In the curves, a line is the mean over seeds and the band one standard deviation; loss terms are
drawn as they are weighted in the objective.

Speed is measured on validation rows in batches of 32, float32, models taking turns, the fastest
of several rounds; one student of each size.

Live distillation would run the teacher over the training rows once per epoch and student; the cache
ran it once. Teacher time is that of the device which built the cache.
"""
GUIDE_LINES = tuple(" ".join(part.split()) for part in GUIDE.split("\n\n"))


def render_html(page: Page) -> str:
    """One self-contained page: styles and pictures inline, no script, nothing fetched."""
    template = _environment().get_template("report.html.j2")
    return str(template.render(page=page, inks=all_inks(), guide=GUIDE_LINES))


def render_markdown(page: Page) -> str:
    """The same for a repository or a pull request; pictures are the files in `figures/`."""
    return str(_environment().get_template("report.md.j2").render(page=page, guide=GUIDE_LINES))


def markdown_text(value: object) -> Markup:
    """Any text as plain Markdown text on one line."""
    line = MARKDOWN.sub(r"\\\g<0>", " ".join(str(value).split()))
    return Markup(html.escape(line, quote=False))  # noqa: S704 - escaped just now


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_text
    environment.filters["inline"] = lambda picture: for_page(picture.svg, picture.label)
    return environment
