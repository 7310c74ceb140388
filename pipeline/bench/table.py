"""Table 4 of the PKD paper, parameters and inference time, from a bench's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.models.sizes import Sizes
from pipeline.report.formats import counted, parameters, size

ROWS = 1000  # that the inference time is given for

Row = Mapping[str, Any]


def reference_of(record: Row) -> str | None:
    """Name of the contender that speed-ups refer to: the teacher; None where there is none."""
    return next((each["name"] for each in record["contenders"] if each["role"] == "teacher"), None)


def speed_up(record: Row, timing: Row) -> float | None:
    """How many times faster than the teacher a median call is; None without a teacher."""
    reference = reference_of(record)
    for each in record["timings"]:
        if each["name"] == reference and _shape(each) == _shape(timing):
            return float(each["p50_ms"] / timing["p50_ms"])
    return None


def load_text(machine: Row) -> str:
    """The machine's load before and after a bench; a dash where the system does not say."""
    loads = (machine["load_before"], machine["load_after"])
    return " and ".join("-" if each is None else f"{each:.1f}" for each in loads)


def paper_table(record: Row) -> str:
    """Markdown: Sun et al. 2019, table 4, with the models and the machine of this bench.

    Inference time is that of 1,000 rows in the largest batches and of the longest rows measured.
    """
    batch, length = max(record["batch_sizes"]), max(record["lengths"])
    head = [
        "model", "layers", "parameters, embeddings", "parameters, blocks", "parameters, all",
        "weights", f"{ROWS:,} rows, batch {batch}", f"one call, batch {min(record['batch_sizes'])}",
    ]  # fmt: skip
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    lines += [_line(record, each, batch, length) for each in record["contenders"]]
    return "\n".join(
        [
            f"# {record['name']}: parameters and inference time",
            "",
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            *_notes(record, length),
            "",
        ]
    )


def _line(record: Row, each: Row, batch: int, length: int) -> list[str]:
    sizes = Sizes.from_dict(each["sizes"])
    reference = next((c for c in record["contenders"] if c["name"] == reference_of(record)), None)
    smaller = ""
    if reference and reference is not each:
        smaller = f" ({reference['parameters'] / each['parameters']:.2f}×)"
    passes = "" if sizes.passes == sizes.layers else f" ({sizes.passes} passes)"
    return [
        each["name"],
        f"{sizes.layers}{passes}",
        parameters(sizes.embeddings),
        parameters(sizes.blocks),
        parameters(sizes.total) + smaller,
        "-" if each["size_bytes"] is None else size(each["size_bytes"]),
        _time(record, each["name"], batch, length, ROWS / batch / 1000, "s"),
        _time(record, each["name"], min(record["batch_sizes"]), length, 1.0, "ms"),
    ]


def _time(record: Row, name: str, batch: int, length: int, factor: float, unit: str) -> str:
    """A median call times a factor, and the speed-up against the teacher."""
    timing = next(
        each
        for each in record["timings"]
        if each["name"] == name and _shape(each) == (batch, length)
    )
    faster = speed_up(record, timing)
    ratio = "" if faster is None or name == reference_of(record) else f" ({faster:.2f}×)"
    return f"{factor * timing['p50_ms']:,.2f} {unit}{ratio}"


def _notes(record: Row, length: int) -> Sequence[str]:
    machine = record["machine"]
    cores, threads = counted(machine["cores"], "core"), counted(machine["threads"], "thread")
    versions = ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    return [
        f"Rows of {length} tokens without padding, float32 but where int8 is named; medians of",
        "calls, the models taking turns. In brackets: how many times smaller, or faster, than the",
        "teacher. Columns as in table 4 of Sun et al. 2019; the sum has pooler and head too.",
        "",
        f"{machine['processor']}, {cores}, {threads} a call;",
        f"load before and after: {load_text(machine)}. {versions}.",
    ]


def _shape(timing: Row) -> tuple[int, int]:
    return int(timing["batch_size"]), int(timing["length"])
