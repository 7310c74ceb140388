"""Layer by layer: how close students come to the teacher, and what each teacher layer knows."""

from __future__ import annotations

from pipeline.report.figures.heat import draw_similarity, shared_range
from pipeline.report.figures.probe import draw_probes
from pipeline.report.findings import TaskFindings
from pipeline.report.section import Picture, Section

PROBES = (
    "A linear classifier on the [CLS] vector of each cached layer. Where the curve rises, the "
    "teacher learns the task: layers below say little of the label."
)


def layer_section(found: TaskFindings, slug: str) -> Section:
    """Heat maps, one student per strategy."""
    return Section(
        heading="Layer by layer",
        slug=f"{slug}-layers",
        texts=(_similarity_text(found),) if found.similarities else (),
        pictures=tuple(_similarity_pictures(found, slug)),
        notes=tuple(found.notes.get("similarity", ())),
    )


def _similarity_pictures(found: TaskFindings, slug: str) -> list[Picture]:
    if not found.similarities:
        return []
    limits = shared_range(found.similarities)
    return [
        Picture(
            slug=f"{slug}-layers-{index}",
            label=f"{found.task}: layer similarity of {each.run.name}",
            svg=draw_similarity(each, limits, slug=f"{slug}-layers-{index}"),
        )
        for index, each in enumerate(found.similarities, start=1)
    ]


def _similarity_text(found: TaskFindings) -> str:
    rows = found.similarities[0].rows
    return (
        "Mean cosine similarity of [CLS] between student and teacher layers, on "
        f"{rows:,} rows of {found.split}; one student per strategy, its lowest seed. Outlined: the "
        "pairs that the strategy matched. PKD trains on the squared distance of the normalised "
        "vectors, which is 2 − 2 · cosine."
    )


def probe_section(found: TaskFindings, slug: str) -> Section | None:
    """The probe curve, where someone kept the probes' scores."""
    if found.probes is None:
        return None
    svg = draw_probes(found.probes, slug=f"{slug}-probes")
    label = f"{found.task}: {found.probes.metric} of a linear probe on each teacher layer"
    return Section(
        heading="What each teacher layer knows",
        slug=f"{slug}-probe",
        texts=(PROBES,),
        pictures=(Picture(slug=f"{slug}-probes", label=label, svg=svg),),
    )
