"""The page `docs/results.md`: from the plan, the records and the published figures alone."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.results.findings import Findings, gather
from benchmarks.results.plan import Plan
from benchmarks.results.published import Published, load_published, published_table
from benchmarks.results.records import FOLDER, Records
from benchmarks.results.tables import choices_table, results_table, settings_text
from benchmarks.results.verdicts import quoted, verdicts
from pipeline.report.formats import KEEP, counted, listed, parameters

PAGE = Path("docs/results.md")
TEMPLATE = "page.md.j2"
WIDTH = 120


def write_page(plan: Plan, records_folder: Path = FOLDER, out: Path = PAGE) -> None:
    """Make the page anew."""
    found = [gather(plan, each, Records(each.name, records_folder)) for each in plan.experiments]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page_text(plan, found, load_published()), "utf-8")


def page_text(plan: Plan, found: Iterable[Findings], published: Iterable[Published]) -> str:
    """The whole page."""
    text = _environment().get_template(TEMPLATE).render(
        plan=plan,
        experiments=[_experiment(each, plan.encoders) for each in found],
        published=[{**vars(each), "table": published_table(each)} for each in published],
    )  # fmt: skip
    # numbers have stayed with their units while lines were filled; from here on a space is a space
    return text.replace(KEEP, " ")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "fill": fill,
        "item": item,
        "listed": lambda values: listed([str(value) for value in values]),
        "quoted": quoted,
        "trained": _trained,
    }
    environment.filters |= filters
    return environment


def fill(text: str, start: str = "", indent: str = "") -> str:
    """A paragraph in lines of one width."""
    words = re.sub("[ \n]+", " ", text).strip(" ")
    filled = textwrap.fill(
        words, WIDTH, initial_indent=start, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return filled + "\n"


def item(text: str) -> str:
    """A paragraph of a list."""
    return fill(text, "* ", "  ").rstrip("\n")


def _trained(settings: Mapping[str, Any]) -> str:
    """Settings that the text does not name otherwise."""
    others = {k: v for k, v in settings.items() if k not in ("keep", "student_layers")}
    return settings_text(others)


def _experiment(findings: Findings, encoders: Mapping[str, str]) -> dict[str, Any]:
    return {
        "title": findings.experiment.title,
        "facts": _facts(findings, encoders),
        "results": results_table(findings),
        "left_out": findings.left_out and counted(findings.left_out, "run"),
        "verdicts": verdicts(findings),
        "held_out": findings.held_out_rows,
        "choices": choices_table(findings),
    }


def _facts(findings: Findings, encoders: Mapping[str, str]) -> str:
    """Encoder, teacher and devices, as far as they are recorded."""
    teacher = findings.teacher
    devices = {_device(run.facts) for row in findings.all_rows for run in row.runs}
    named = {
        "Encoder": [_encoder(base, encoders) for base in teacher.facts("base")],
        "Layers of the teacher": [str(layers) for layers in teacher.facts("layers")],
        "Parameters of the teacher": [parameters(size) for size in teacher.facts("parameters")],
        "Trained on": sorted(devices - {""}),
    }
    return " ".join(f"{name}: {listed(values)}." for name, values in named.items() if values)


def _encoder(base: Mapping[str, Any], encoders: Mapping[str, str]) -> str:
    """Its hub id; of a folder what the plan calls it, else its name and the start of its digest."""
    if base.get("hub_id"):
        return f"`{base['hub_id']}`"
    if name := encoders.get(str(base.get("digest"))[:8]):
        return name
    return f"a folder named `{base['name']}`, digest {str(base.get('digest'))[:8]}"


def _device(facts: Mapping[str, Any]) -> str:
    """`cpu, 2 threads, float32`."""
    threads = facts.get("threads")
    parts = [facts.get("device"), threads and counted(threads, "thread"), facts.get("precision")]
    return ", ".join(str(part) for part in parts if part)
