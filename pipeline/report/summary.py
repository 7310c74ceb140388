"""What came out, in plain sentences: what is best at each depth, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pipeline.report import formats
from pipeline.report.findings import TaskFindings
from pipeline.report.formats import listed
from pipeline.report.tables import Comparison, Group, compare


def task_sentences(found: TaskFindings) -> list[str]:
    """Sentences for one task, the most important first."""
    depths = groupby(found.groups, key=lambda group: group.depth)
    sentences = [depth_sentence(depth, list(members)) for depth, members in depths]
    return [*sentences, *_speed_sentence(found), *_cost_sentence(found)]


def depth_sentence(depth: int, groups: Sequence[Group]) -> str:
    """Which strategy is best at one depth, by how much, against how much noise."""
    ranked = sorted(groups, key=lambda group: -group.score.mean)
    best = ranked[0]
    opening = f"{formats.counted(depth, 'layer').capitalize()}: "
    if len(ranked) == 1:
        return f"{opening}only {best.label} was trained, {_scored(best)}."
    second = ranked[1]
    verdict = _verdict(compare(best.score, second.score), best, second)
    ranking = (
        f"{opening}{best.label} scores highest, {_scored(best)}; next is {second.label} with "
        f"{formats.mean_std(second.score)}."
    )
    return " ".join([ranking, verdict, *_against_fine_tuning(best, ranked)])


def _scored(group: Group) -> str:
    kept = "" if group.kept is None else f" ({formats.percent(group.kept)} of the teacher's score)"
    n = group.score.n
    seeds = f" over {n:,} seeds" if n > 1 else " with its only seed"
    return f"{formats.mean_std(group.score)}{seeds}{kept}"


def _verdict(found: Comparison, best: Group, second: Group) -> str:
    gap = formats.points(found.gap)
    if found.gap == 0:
        return "They are equal."
    if found.noise is None:
        who = listed([g.label for g in (best, second) if g.score.n == 1])
        return f"The gap is {gap}; with one seed of {who} its noise is unknown: no verdict."
    deviation = f"one standard deviation over seeds ({formats.points(found.noise)})"
    if found.within_noise and not found.significant:
        return f"The gap of {gap} is within {deviation}: no clear winner."
    if found.within_noise:
        return (
            f"The gap of {gap} is smaller than {deviation}, yet over so many seeds "
            "unlikely to be chance (t-test, 95 %)."
        )
    if not found.significant:
        return (
            f"The gap of {gap} is more than {deviation}, but with so few seeds it can "
            "still be chance (t-test, 95 %)."
        )
    return (
        f"The gap of {gap} exceeds the seed noise ({formats.points(found.noise)}): a clear winner."
    )


def _against_fine_tuning(best: Group, ranked: Sequence[Group]) -> list[str]:
    """What distillation adds to plain fine-tuning, when that is not said already."""
    if best.strategy == "finetune":
        return ["No distilled student is above fine-tuning on the labels alone."]
    plain = next((group for group in ranked[2:] if group.strategy == "finetune"), None)
    if plain is None:
        return []
    found = compare(best.score, plain.score)
    clear = "beyond the seed noise" if found.significant else "not certain with these seeds"
    gap = formats.signed_points(found.gap)
    return [f"Against fine-tuning alone ({formats.mean_std(plain.score)}): {gap}, {clear}."]


def _speed_sentence(found: TaskFindings) -> list[str]:
    teacher = found.teachers[0]
    if len(found.teachers) > 1 or teacher.speed is None or not teacher.parameters:
        return []
    parts = []
    for (depth, passes, parameters), speed in sorted(found.speeds.items()):
        faster = formats.times(speed.rows_per_second / teacher.speed.rows_per_second)
        share = formats.percent(parameters / teacher.parameters)
        parts.append(
            f"{_layers(depth, passes)} run {faster} as fast as the teacher with "
            f"{share} of its parameters"
        )
    return [f"Speed: {listed(parts)}."] if parts else []


def _layers(depth: int, passes: int) -> str:
    text = formats.counted(depth, "layer")
    return text if passes == depth else f"{text} in {passes} passes"


def _cost_sentence(found: TaskFindings) -> list[str]:
    cost = found.cost
    if cost is None or cost.break_even is None:
        return []
    students = formats.counted(cost.students, "distilled student")
    sentence = (
        f"Cache: {formats.seconds(cost.build_seconds)} of teacher time once, where live teachers "
        f"would have taken {formats.seconds(cost.live_seconds)} for {students}; "
        f"paid for after {formats.counted(cost.break_even, 'student')}."
    )
    return [sentence]
