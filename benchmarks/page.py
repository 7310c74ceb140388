"""docs/benchmarks.md, made of the JSON files in docs/benchmarks/: python -m benchmarks.page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import WAYS
from benchmarks.memory import CONTENDERS
from benchmarks.repeated import AGAIN, FLOOR, PASS, REST
from benchmarks.shares import PIECES, TEACHER
from benchmarks.summary import ratio
from benchmarks.targets import TARGETS, Parts, memory_ratio, step_ratio
from pipeline.files import read_json

DOCS = Path(__file__).parent.parent / "docs"
FOLDER, PAGE = DOCS / "benchmarks", DOCS / "benchmarks.md"
CLOCKS = {"perf_counter": "wall time"} | dict.fromkeys(
    ("process_time", "thread_time"), "processor time"
)
TASKS = {"rte": "RTE", "mrpc": "MRPC", "sst2": "SST-2", "cola": "CoLA"}

HEAD = Path(__file__).with_name("page_head.md").read_text("utf-8")


def page_text(results: dict[str, dict[str, Any]]) -> str:
    """The page.

    Args:
        results: what a run of the suite wrote, by the file's name.
    """
    ran = {part for result in results.values() for part in result["parts"]}
    nowhere = {target.part for target in TARGETS} - ran
    runs = []
    for name, result in sorted(results.items()):
        runs.append(_run_text(name, result, {*result["parts"], *nowhere}))
        nowhere = set()  # named once
    return "\n".join([HEAD, *runs])


def write_page() -> None:
    """Make the page from all files."""
    results = {path.stem: read_json(path) for path in sorted(FOLDER.glob("*.json"))}
    PAGE.write_text(page_text(results), "utf-8")


def _run_text(name: str, result: dict[str, Any], of_targets: Collection[str]) -> str:
    ran, parts = result["parts"], found_in(result["parts"])
    sections = [f"## {name}", _facts(result), _targets(of_targets, parts)]
    for part, make in SECTIONS.items():
        if part in parts:
            sections.append(make(parts[part]))
        elif part in ran:
            sections.append(f"### {part}\n\nNot measured: {ran[part]['missing']}.")
    return "\n\n".join(sections) + "\n"


def found_in(ran: dict[str, Any]) -> Parts:
    """What the parts that ran found; those that could not run left out."""
    return {name: part["found"] for name, part in ran.items() if "found" in part}


def _facts(result: dict[str, Any]) -> str:
    machine, load = result["machine"], result["load"]
    minutes = sum(part["seconds"] for part in result["parts"].values()) / 60
    note = ""
    if result["precision"] == "float32":
        note = " This processor multiplies no bfloat16, so all steps are in float32."
    return (
        f"`{result['command']}`\n\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; steps on "
        f"{machine['device']}. Python {machine['python']}, torch {machine['torch']}, transformers "
        f"{machine['transformers']}. {minutes:.0f} minutes; load average (1, 5, 15 minutes) "
        f"{_loads(load['before'])} before and {_loads(load['after'])} after.{note}"
    )


def _loads(loads: Sequence[float]) -> str:
    return ", ".join(f"{each:.2f}" for each in loads)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are texts, the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _targets(of_targets: Collection[str], parts: Parts) -> str:
    """Those of some parts, and what was found."""
    rows = []
    for target in (each for each in TARGETS if each.part in of_targets):
        value = target.of(parts)
        sign = "≥" if target.at_least else "≤"
        limit = f"{sign} {target.shown(target.limit)}"
        if value is None:
            rows.append([target.text, limit, "not measured", ""])
        else:
            verdict = "reached" if target.reached(value) else "**not reached**"
            rows.append([target.text, limit, target.shown(value), verdict])
    return "### Targets\n\n" + table(["", "target", "measured", ""], rows)


def _milliseconds(measured: dict[str, Any]) -> list[str]:
    low, median, high = (1000 * measured[key] for key in ("q1", "median", "q3"))
    return [f"{median:,.1f}", f"{low:,.1f} - {high:,.1f}", str(measured["count"])]


def _seconds(measured: dict[str, Any]) -> list[str]:
    low, median, high = (measured[key] for key in ("q1", "median", "q3"))
    return [f"{median:.2f}", f"{low:.2f} - {high:.2f}", str(measured["count"])]


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _steps(cases: list[dict[str, Any]]) -> str:
    return "### Steps\n\n" + "\n\n".join(_case(case) for case in cases)


def _case(case: dict[str, Any]) -> str:
    found, rows = case["contenders"], []
    for name in (each for each in WAYS if each in found):  # a file's keys are sorted
        text, measured = WAYS[name].text, found[name]
        if "missing" in measured:
            rows.append([text, measured["missing"], "", "", "", "", ""])
            continue
        own = name.replace("live", "cache")
        base = own if "live" in name and own in found else "cache-skip"
        ratios = [
            step_ratio(found, name, "finetune"), step_ratio(found, name, base),
            ratio(measured, found[base], "sum"),
        ]  # fmt: skip
        rows.append([text, *_milliseconds(measured), *map(_times, ratios)])
    head = ["", "ms a step", "q1 - q3", "steps", "/ fine-tuning", "/ from the cache", "of sums"]
    return (
        f"{TASKS[case['task']]}, {case['teacher']} of {case['teacher_layers']} layers to "
        f"{case['student_layers']}, batch {case['batch_size']} ({case['tokens_a_step']:,.0f} "
        f"tokens a step), {case['precision']}, {CLOCKS[case['clock']]}; load {case['load']:.2f}."
        "\n\n" + table(head, rows)
    )


def _shares(found: list[dict[str, Any]]) -> str:
    names = (*PIECES, TEACHER)
    sizes = ", ".join(f"{TASKS[each['task']]} {each['batch_size']}" for each in found)
    head = ["", *(f"{TASKS[each['task']]}, ms" for each in found),
            *(f"{TASKS[each['task']]}, share" for each in found)]  # fmt: skip
    rows = [
        [name, *(f"{1000 * each['pieces'][name]['median']:,.1f}" for each in found),
         *(f"{each['shares'][name]:.1%}" for each in found)]
        for name in names
    ]  # fmt: skip
    first = found[0]
    return (
        f"### Where a step's time goes\n\n{first['teacher']} of {first['teacher_layers']} layers "
        f"to {first['student_layers']}, skip from the cache, rows of a batch: {sizes}; the "
        'pieces of the loop, timed apart: medians, and shares of the sum of all steps. "encoder" '
        'is with pooler and head; "optimizer" with schedule and zeroing. The teacher\'s forward '
        "pass, no part of a step from the cache, is what a live teacher adds.\n\n"
        + table(head, rows)
    )


def _arithmetic(found: dict[str, Any]) -> str:
    peak = found["peak"]
    rows = [["a large matrix product", "", "", f"{peak / 1e9:,.0f}", "100.0%"]]
    one = found["stage_one"]
    passes = [("stage one", one, "")]
    passes += [("stage two", each, str(each["batch_size"])) for each in found["stage_two"]]
    for name, each, batch in passes:
        rows.append([
            f"{name}, {each['layers']} layers", batch, f"{each['tokens']:,.0f}",
            f"{each['rate'] / 1e9:,.0f}", f"{each['rate'] / peak:.1%}",
        ])  # fmt: skip
    head = ["", "batch", "tokens", "10^9 operations / s", "share"]
    return (
        "### Arithmetic\n\nOperations of the matrix products and of attention, as torch counts "
        f"them, over the time of whole batches and steps; {found['teacher']}, "
        f"{TASKS[found['task']]}, {found['precision']}, load {found['load']:.2f}.\n\n"
        + table(head, rows)
    )


def _padding(found: list[dict[str, Any]]) -> str:
    keys = ("stage_one", "stage_two", "random", "padded_to_128")
    head = ["", "rows", "mean length", "stage one", "stage two", "random batches", "all to 128"]
    rows = [
        [TASKS[each["task"]], f"{each['rows']:,}", f"{each['mean_length']:.1f}",
         *(f"{each[key]:.1%}" for key in keys)]
        for each in found
    ]  # fmt: skip
    return "### Share of padding among tokens\n\n" + table(head, rows)


def _memory(found: dict[str, Any]) -> str:
    contenders, mega = found["contenders"], 2**20
    rows = [
        [WAYS[name].text, f"{each['peak'] / mega:,.0f}",
         ", ".join(f"{peak / mega:,.0f}" for peak in each["peaks"]),
         f"{each['cached'] / mega:.1f}", _times(memory_ratio(each, contenders["finetune"]))]
        for name, each in ((name, contenders[name]) for name in CONTENDERS)
    ]  # fmt: skip
    head = ["", "peak MB", "of each process", "cached MB", "(peak - cached) / fine-tuning"]
    return (
        f"### Peak memory\n\nA process for each; {TASKS[found['task']]}, bert-base shapes, "
        f"{found['teacher_layers']} → {found['student_layers']}, batch {found['batch_size']}, "
        f"{found['precision']}.\n\n" + table(head, rows)
    )


BUILDS = {
    "bare": "bare teacher forward, all rows",
    "bare-cls": "the same with the last block at [CLS] alone", "build": "whole build",
    "bare-train": "bare teacher forward, training rows",
    "bare-cls-train": "the same with the last block at [CLS] alone",
    "build-train": "the build's pass over the training rows, written",
}  # fmt: skip


def _build(found: dict[str, Any]) -> str:
    contenders = found["contenders"]
    rows = []
    for name, text in BUILDS.items():
        if name not in contenders:
            continue
        each, base = contenders[name], contenders["bare-train" if "train" in name else "bare"]
        rows.append([text, *_seconds(each), _times(ratio(each, base))])
    head = ["", "seconds", "q1 - q3", "times", "/ bare"]
    count = sum(found["rows"].values())
    return (
        f"### Building a cache\n\n{count:,} rows of {TASKS[found['task']]}'s lengths, teacher of "
        f"{found['teacher']}, float32. A whole build also loads the teacher, reads and tokenizes "
        "the rows, runs 64 rows of each split again to state its error, and checks and publishes "
        f"the cache; those rows alone are {128 / count:.1%} of the rows here.\n\n"
        + table(head, rows)
    )


def _loading(found: dict[str, Any]) -> str:
    rows = [
        [name, *_milliseconds(each), f"{each['bytes'] / 2**20:.1f}"]
        for name, each in sorted(found["contenders"].items())
    ]
    head = ["", "ms", "q1 - q3", "times", "MB of [CLS]"]
    return (
        f"### Loading a cache\n\n{found['rows']:,} rows, 12 layers of {found['hidden']}, "
        "float16, in the system's page cache: open, read the logits and the layers that a student "
        "needs, check their digests.\n\n" + table(head, rows)
    )


def _sweep(found: dict[str, Any]) -> str:
    rows = [
        [f"{found['students']} times `pkd-student fit`", f"{found['fits']:.0f}", "1"],
        ["one `pkd-student sweep`", f"{found['sweep']:.0f}",
         _times(found["sweep"] / found["fits"])],
    ]  # fmt: skip
    single = found["single"]
    return (
        f"### A grid of students\n\n{found['students']} students ({found['student']}), "
        f"{found['rows']['train']:,} rows, {found['epochs']} epochs. Single commands differ in two "
        f"factors of the loss alone: {len(single)} of them were run ({min(single):.0f} to "
        f"{max(single):.0f} seconds), half before the sweep and half after it, and count for all. "
        "The sweep has a worker for each core, a single command all cores for itself.\n\n"
        + table(["", "seconds", ""], rows)
    )


def _startup(found: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", *_milliseconds(each), f"{1000 * each['processor']:,.0f}"]
        for name, each in found["contenders"].items()
    ]
    head = ["", "ms", "q1 - q3", "times", "ms of processor time"]
    return "### Start-up\n\n" + table(head, rows)


def _floor(found: dict[str, Any]) -> str:
    rows = []
    for number, sitting in enumerate(found["sittings"], start=1):
        plain, ours = (sum(sitting[way]) for way in FLOOR)
        rows.append([str(number), *(f"{each:.2f}" for each in (plain, ours)), _times(ours / plain)])
    steps = len(found["sittings"][0][FLOOR[0]])
    return (
        "### A step against the same step\n\nFine-tuning and the cache (skip), both with the last "
        f"block at [CLS] alone; {TASKS[found['task']]}, {found['student']}, batch "
        f"{found['batch_size']}, {found['precision']}, {CLOCKS[found['clock']]}, {steps} steps "
        "each, and then all models made anew: where they lie in memory makes one of them faster by "
        f"some percent for as long as they are there. Load {found['load']:.2f}.\n\n"
        + table(["", "fine-tuning, s", "from the cache, s", ""], rows)
    )


BUILD_PIECES = {
    PASS: "the teacher's pass", AGAIN: "64 rows of each split again, for the error",
    "load": "the teacher is loaded", "tokens": "rows are read, tokenized and written",
    "encode": "[CLS] in the stored type", REST: "all else",
}  # fmt: skip


def _build_pieces(found: dict[str, Any]) -> str:
    total = found["total"]
    rows = [
        [text, f"{found['pieces'][name]:.2f}", f"{found['pieces'][name] / total:.1%}"]
        for name, text in BUILD_PIECES.items()
    ]
    return (
        f"### Where a build's time goes\n\n{sum(found['rows'].values()):,} rows of SST-2's "
        f"lengths, {found['teacher']}, float32; {CLOCKS[found['clock']]} of one build, without "
        f"that of the thread which writes meanwhile. Load {found['load']:.2f}.\n\n"
        + table(["", "seconds", "share"], [*rows, ["whole build", f"{total:.2f}", "100.0%"]])
    )


FIRST_STEPS = {"fit": "`pkd-student fit`", "script": "a bare script of `transformers`"}


def _first_step(found: dict[str, Any]) -> str:
    rows = [[text, *_seconds(found["contenders"][name])] for name, text in FIRST_STEPS.items()]
    return (
        "### From a command's start to its first step\n\nUntil the first training step is done: "
        f"imports, model ({found['student']}, cut from a deeper one), {found['rows']:,} rows, and "
        "for `fit` the cache, its digests, its log. The script is the least that fine-tunes: it "
        f"reads and tokenizes the rows of one step. Both have {found['batch_size']} in a batch.\n\n"
        + table(["", "seconds", "q1 - q3", "times"], rows)
    )


SECTIONS: dict[str, Callable[[Any], str]] = {
    "steps": _steps, "shares": _shares, "arithmetic": _arithmetic, "padding": _padding,
    "memory": _memory, "build": _build, "loading": _loading, "sweep": _sweep, "startup": _startup,
    "first-step": _first_step, "floor": _floor, "build-pieces": _build_pieces,
}  # fmt: skip

if __name__ == "__main__":
    write_page()
