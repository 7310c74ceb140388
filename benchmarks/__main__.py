"""The benchmark suite: its results as JSON, and docs/benchmarks.md made of all of them.

    make bench        or: python -m benchmarks --device cuda --out docs/benchmarks/gpu.json

On a processor it takes 40 minutes, and so does the sweep, which `make bench-sweep` runs there
apart. TextBrewer's rows need
`pip install --no-deps textbrewer==0.2.1.post1 tensorboardX protobuf`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.machine import describe_machine, load_average
from benchmarks.page import FOLDER, write_page
from benchmarks.parts import PARTS, run_part, usual_parts
from benchmarks.setting import Setting
from pipeline.devices import pick_device
from pipeline.files import write_json


def main() -> None:
    """Run the parts and write what they found."""
    given = _arguments()
    setting = Setting(device=pick_device(given.device), quick=given.quick)
    before, parts = load_average(), {}
    for name in given.only or usual_parts(setting):
        print(name, file=sys.stderr, flush=True)
        parts[name] = run_part(name, setting)
    result = {
        "command": _command(given), "machine": describe_machine(setting.device),
        "load": {"before": before, "after": load_average()},
        "device": setting.device.type, "precision": setting.precision, "quick": setting.quick,
        "parts": parts,
    }  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, result)
    if given.out.resolve().parent == FOLDER:
        write_page()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help="parts")
    parser.add_argument("--quick", action="store_true", help="tiny models, to try the suite")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    return parser.parse_args()


def _command(given: argparse.Namespace) -> str:
    words = ["python -m benchmarks", "--device", given.device]
    words += ["--only", *given.only] if given.only else []
    words += ["--quick"] if given.quick else []
    return " ".join([*words, "--out", f"docs/benchmarks/{given.out.name}"])


if __name__ == "__main__":
    main()
