"""What the suite is to show, as ratios within one run, and what a run found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import WAYS
from benchmarks.repeated import FLOOR, PASS
from benchmarks.summary import paired, ratio

LARGE = 16_000  # tokens of a batch that fills a GPU

Parts = dict[str, Any]
"""What every part found, by name; a part that did not run is absent."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A ratio and its limit."""

    text: str
    limit: float
    part: str = "steps"
    """The part of the suite that measures it."""
    at_least: bool = False
    """Else at most."""
    of: Callable[[Parts], float | None]
    share: bool = False
    """Written in %."""

    def reached(self, value: float) -> bool:
        """Whether a ratio is within the limit."""
        return value >= self.limit if self.at_least else value <= self.limit

    def shown(self, value: float) -> str:
        """A value or the limit, for people."""
        return f"{value:.1%}" if self.share else f"{value:.3g}"


def case_of(parts: Parts, task: str, teacher_layers: int, student_layers: int) -> Any:
    """The contenders of a case of steps, or None."""
    wanted = (task, teacher_layers, student_layers)
    for case in parts.get("steps", []):
        if (case["task"], case["teacher_layers"], case["student_layers"]) == wanted:
            return case["contenders"]
    return None


def steps(
    one: str, other: str, task: str, teacher: int, student: int
) -> Callable[[Parts], float | None]:
    """Steps of one contender over those of another."""
    return lambda parts: step_ratio(case_of(parts, task, teacher, student) or {}, one, other)


def step_ratio(contenders: dict[str, Any], one: str, other: str) -> float | None:
    """Step by step where both have the same batches, else of medians; None if one is missing."""
    alike = WAYS[one].batches == WAYS[other].batches
    compare = paired if alike else ratio
    return compare(contenders.get(one), contenders.get(other))


def against_float32(parts: Parts) -> float | None:
    """The 2019 way over the cache in float32, which on a processor is the run's own precision."""
    found = case_of(parts, "sst2", 12, 3) or {}
    return ratio(found.get("2019"), found.get("cache-skip-float32", found.get("cache-skip")))


def against_bfloat16(parts: Parts) -> float | None:
    """The 2019 way over the cache in bf16; None where the run was in float32."""
    found = case_of(parts, "sst2", 12, 3) or {}
    in_float32 = "cache-skip-float32" not in found
    return None if in_float32 else ratio(found.get("2019"), found.get("cache-skip"))


def built(parts: Parts) -> float | None:
    """Whole build over the bare teacher."""
    found = parts.get("build", {}).get("contenders", {})
    return ratio(found.get("build"), found.get("bare"))


def step_over_step(parts: Parts) -> float | None:
    """From the cache over fine-tuning, all steps of all sittings."""
    sittings = parts.get("floor", {}).get("sittings", [])
    plain, ours = (sum(sum(each[way]) for each in sittings) for way in FLOOR)
    return ours / plain if sittings else None


def build_over_pass(parts: Parts) -> float | None:
    """All of a build over its teacher's pass, of one run."""
    found = parts.get("build-pieces")
    return float(found["total"]) / float(found["pieces"][PASS]) if found else None


def memory(floor: str) -> Callable[[Parts], float | None]:
    """Peak from the cache, cached layers apart, over that of fine-tuning."""

    def of(parts: Parts) -> float | None:
        found = parts.get("memory", {}).get("contenders", {})
        return memory_ratio(found["cache-skip"], found[floor]) if floor in found else None

    return of


def memory_ratio(one: dict[str, Any], floor: dict[str, Any]) -> float:
    """Of smallest peaks, without the bytes of the cached layers."""
    return float(one["peak"] - one["cached"]) / float(floor["peak"])


def padding(stage: str) -> Callable[[Parts], float | None]:
    """The largest share of padding among the tasks."""
    return lambda parts: max((each[stage] for each in parts.get("padding", [])), default=None)


def swept(device: str) -> Callable[[Parts], float | None]:
    """One sweep over as many fits, on a kind of device."""

    def of(parts: Parts) -> float | None:
        found = parts.get("sweep")
        if not found or found["device"] != device:
            return None
        return float(found["sweep"]) / float(found["fits"])

    return of


def _in_bfloat16(parts: Parts) -> dict[str, Any] | None:
    found: dict[str, Any] | None = parts.get("arithmetic")
    return found if found and found["precision"] == "bfloat16" else None


def arithmetic_of_stage_one(parts: Parts) -> float | None:
    """Of the teacher's pass; None where the run was in float32."""
    found = _in_bfloat16(parts)
    return float(found["stage_one"]["rate"]) / float(found["peak"]) if found else None


def arithmetic_of_stage_two(parts: Parts) -> float | None:
    """The worst of the students in large batches; None where the run was in float32."""
    found = _in_bfloat16(parts)
    cases = found["stage_two"] if found else []
    rates = [float(each["rate"]) for each in cases if each["tokens"] >= LARGE]
    return min(rates) / float(found["peak"]) if found and rates else None


def starts(info: bool) -> Callable[[Parts], float | None]:
    """Median seconds of `pkd-cache info`, or of the slowest --help."""

    def of(parts: Parts) -> float | None:
        found = parts.get("startup", {}).get("contenders", {})
        medians = [each["median"] for name, each in found.items() if ("info CACHE" in name) == info]
        return max(medians, default=None)

    return of


TARGETS = (
    Target(text="fit from the cache (skip) / plain fine-tuning, same batches, 12 → 3, RTE",
           limit=1.03, of=steps("cache-skip", "finetune", "rte", 12, 3)),
    Target(text="fit from the cache / fine-tuning, both with the last block at [CLS] alone",
           part="floor", limit=1.03, of=step_over_step),
    Target(text="live teacher / from the cache (skip), 12 → 3, RTE (arithmetic limit 3.23)",
           limit=2.15, at_least=True, of=steps("live-skip", "cache-skip", "rte", 12, 3)),
    Target(text="the same, but all models with the last block at [CLS] alone (limit 2.72)",
           limit=2.15, at_least=True, of=steps("live-skip-cls", "cache-skip", "rte", 12, 3)),
    Target(text="live teacher / from the cache (kd), 24 large → 6 base, RTE (limit 3.91)",
           limit=3.1, at_least=True, of=steps("live-kd", "cache-kd", "rte", 24, 6)),
    Target(text="live teacher / from the cache (skip with projection), 24 large → 6 base, RTE",
           limit=3.1, at_least=True, of=steps("live-skip", "cache-skip", "rte", 24, 6)),
    Target(text="TextBrewer / from the cache, same batches, 12 → 3, RTE",
           limit=2.15, at_least=True, of=steps("textbrewer", "cache-skip", "rte", 12, 3)),
    Target(text="TextBrewer as in its examples / from the cache, 12 → 3, SST-2",
           limit=3, at_least=True, of=steps("textbrewer-random", "cache-skip", "sst2", 12, 3)),
    Target(text="the 2019 way / from the cache in float32, 12 → 3, SST-2",
           limit=6, at_least=True, of=against_float32),
    Target(text="the 2019 way / from the cache in bf16, 12 → 3, SST-2",
           limit=12, at_least=True, of=against_bfloat16),
    Target(text="cache build / bare teacher forward, same batches",
           part="build", limit=1.05, of=built),
    Target(text="cache build / its own pass (where a build's time goes)",
           part="build-pieces", limit=1.05, of=build_over_pass),
    Target(text="peak memory from the cache / plain fine-tuning, cached layers apart",
           part="memory", limit=1.02, of=memory("finetune")),
    Target(text="the same, but both with the last block at [CLS] alone",
           part="memory", limit=1.02, of=memory("finetune-cls")),
    Target(text="padding among stage one's tokens, the worst of the four tasks",
           part="padding", limit=0.02, share=True, of=padding("stage_one")),
    Target(text="padding among stage two's tokens, the worst of the four tasks",
           part="padding", limit=0.1, share=True, of=padding("stage_two")),
    Target(text="arithmetic over the measured bf16 matrix peak, stage one",
           part="arithmetic", limit=0.45, at_least=True, share=True, of=arithmetic_of_stage_one),
    Target(text="arithmetic over the measured bf16 matrix peak, stage two, at least 16k tokens",
           part="arithmetic", limit=0.4, at_least=True, share=True, of=arithmetic_of_stage_two),
    Target(text="12 students in one sweep / 12 `pkd-student fit`, on a processor",
           part="sweep", limit=0.9, of=swept("cpu")),
    Target(text="12 students in one sweep / 12 `pkd-student fit`, on a GPU",
           part="sweep", limit=0.4, of=swept("cuda")),
    Target(text="seconds of `pkd-cache info` of a local cache",
           part="startup", limit=0.3, of=starts(info=True)),
    Target(text="seconds of `--help`, the slowest command",
           part="startup", limit=0.2, of=starts(info=False)),
)  # fmt: skip
