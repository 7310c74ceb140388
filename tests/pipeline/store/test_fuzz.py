"""pytest tests/pipeline/store/test_fuzz.py - files damaged by chance never do harm.

A trial follows from its number alone. One that fails is printed, and runs alone with
`PKD_FUZZ_SEED=<number> pytest tests/pipeline/store/test_fuzz.py`. A process with 1.5 GiB of room
reads and verifies each cache (`tests.support.victim`), so that a crash, a hang and a blow-up are
outcomes too. What may come of a trial: an error of ours on one line, or the values that were there
before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.support.hostile import ROWS, canonical, forged, put, sealed
from tests.support.mutations import mutate_bytes, mutate_json
from tests.support.synthetic import files_of, write
from tests.support.victim import Report, Victim

SOAK = bool(os.environ.get("PKD_SOAK"))
WORKERS = 2 if SOAK else 1
TRIALS = 10_000 if SOAK else 200
CPU_SECONDS, GROWN_MB = 2.0, 200.0
DTYPES = ("float16", "int8")
KINDS = ("manifest", "sealed manifest", "zarr.json", "examples.arrow", "shard")
SHARES = (5, 5, 4, 4, 2)  # of the trials, by kind

ONE = os.environ.get("PKD_FUZZ_SEED")


@dataclass(frozen=True)
class Trial:
    """What becomes of a cache; everything follows from the number."""

    number: int
    kind: str
    dtype: str
    draw: Random

    @classmethod
    def of(cls, number: int) -> Trial:
        draw = Random(number)
        kind = draw.choices(KINDS, SHARES)[0]
        return cls(number, kind, draw.choice(DTYPES), draw)

    def harm(self, cache: Path) -> str:
        """Change one file of a cache, and seal it but for the kind `manifest`; returns its name."""
        if "manifest" in self.kind:
            return self._harm_manifest(cache)
        names = sorted(name for name in files_of(cache) if name != "manifest.json")
        of_kind = {
            "zarr.json": [name for name in names if name.endswith("zarr.json")],
            "examples.arrow": [name for name in names if name.endswith(".arrow")],
            "shard": [name for name in names if "/c/" in name],
        }
        name = self.draw.choice(of_kind[self.kind])
        raw = (cache / name).read_bytes()
        if self.kind == "zarr.json" and self.draw.random() < 0.5:
            changed = json.dumps(mutate_json(self.draw, json.loads(raw))).encode()
        else:
            changed = mutate_bytes(self.draw, raw)
        put(cache, name, changed)
        return name

    def _harm_manifest(self, cache: Path) -> str:
        path = cache / "manifest.json"
        raw = path.read_bytes()
        if self.kind == "sealed manifest":
            path.write_bytes(sealed(mutate_json(self.draw, json.loads(raw))))
        elif self.draw.random() < 0.3:
            path.write_bytes(canonical(mutate_json(self.draw, json.loads(raw))))
        else:
            path.write_bytes(mutate_bytes(self.draw, raw))
        return path.name


@dataclass(frozen=True)
class Bench:
    """Sound caches, and copies of them to harm."""

    originals: dict[str, dict[str, bytes]]
    copies: dict[str, Path]
    reports: dict[str, Report]
    victim: Victim

    def run(self, trial: Trial) -> tuple[str, list[str]]:
        """What came of a trial: a word for it, and its flaws."""
        cache, files = self.copies[trial.dtype], self.originals[trial.dtype]
        name = trial.harm(cache)
        same = (cache / name).read_bytes() == files[name]
        report = self.victim.examine(cache)
        for each in {name, "manifest.json"}:
            (cache / each).write_bytes(files[each])
        word, flaws = outcome(report, self.reports[trial.dtype], trial.kind)
        if same:
            return "not changed at all", [*flaws, *report.texts]
        if trial.kind == "manifest" and "open" not in report.failures:
            flaws.append("a manifest of other bytes was read")
        return word, flaws


def outcome(report: Report, original: Report, kind: str) -> tuple[str, list[str]]:
    """Judge a trial."""
    flaws = report.flaws()
    if report.cpu_seconds > CPU_SECONDS or report.grown_mb > GROWN_MB:
        flaws.append(f"took {report.cpu_seconds:.1f} s and {report.grown_mb:.0f} MB")
    other = {step for step, value in report.values.items() if value != original.values.get(step)}
    if report.verified and (other or report.values.keys() != original.values.keys()):
        flaws.append(f"verify is content with other values: {sorted(other)}")
    # whoever seals other tokens made another cache: `verify` tells, a reader cannot
    if other - ({"train.examples"} if kind == "examples.arrow" else set()):
        flaws.append(f"other values were read: {sorted(other)}")
    if "open" in report.failures:
        return "refused at opening", flaws
    if report.failures:
        return "refused in reading", flaws
    return ("read as it was" if report.verified else "found by verify alone"), flaws


def make_bench(folder: Path) -> Bench:
    originals, copies, reports = {}, {}, {}
    for dtype in DTYPES:
        write(folder / f"{dtype}.zarr", rows=ROWS, dtype=dtype)
        copies[dtype] = folder / f"{dtype}-harmed.zarr"
        shutil.copytree(folder / f"{dtype}.zarr", copies[dtype])
        originals[dtype] = files_of(copies[dtype])
    victim = Victim(folder / f"{DTYPES[0]}.zarr")
    for dtype, path in copies.items():
        reports[dtype] = victim.examine(path)
        assert reports[dtype].verified
    return Bench(originals, copies, reports, victim)


def run_trials(numbers: range, folder: Path) -> tuple[Counter[str], list[str]]:
    """Run some trials one after the other; counts of what came of them, and failures."""
    bench, counts, failures = make_bench(folder), Counter[str](), []
    with bench.victim:
        for number in numbers:
            trial = Trial.of(number)
            word, flaws = bench.run(trial)
            counts[f"{trial.kind}: {word}"] += 1
            failures += [f"PKD_FUZZ_SEED={number} ({trial.kind}): {flaw}" for flaw in flaws]
    return counts, failures


@pytest.mark.soak
def test_files_damaged_by_chance(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    numbers = [range(start, TRIALS, WORKERS) for start in range(WORKERS)]
    if ONE:
        numbers = [range(int(ONE), int(ONE) + 1)]
    folders = [tmp_path / str(index) for index in range(len(numbers))]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(run_trials, numbers, folders))
    counts = sum((counted for counted, _ in results), Counter[str]())
    failures = [failure for _, found in results for failure in found]
    for word in sorted(counts):
        record_property(f"fuzzed {word}", counts[word])
    assert failures == [], "\n".join([f"{len(failures)} of {TRIALS}", *failures[:50]])


def test_a_trial_follows_from_its_number(tmp_path: Path) -> None:
    """Or a failure could not be found again."""
    write(tmp_path / "float16.zarr", rows=ROWS)
    for number in range(12):
        changed = []
        for copy in ("one", "two"):
            shutil.copytree(tmp_path / "float16.zarr", tmp_path / copy)
            Trial.of(number).harm(tmp_path / copy)
            changed.append(files_of(tmp_path / copy))
            shutil.rmtree(tmp_path / copy)
        assert changed[0] == changed[1]


def test_a_seal_holds(sound: Path, cache: Path, victim: Victim, original: Report) -> None:
    """A forgery that changes nothing is sound: what trials refuse is refused for its meaning."""
    with forged(cache):
        pass
    put(cache, "train/cls/zarr.json", (cache / "train/cls/zarr.json").read_bytes())
    assert files_of(cache) == files_of(sound)
    assert victim.examine(cache).values == original.values
