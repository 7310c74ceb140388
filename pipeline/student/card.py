"""The model card that travels with a student."""

from __future__ import annotations

from typing import Any

from pipeline.tasks import GLUE_NAMES

GLUE = "nyu-mll/glue"
HOW = {"averaged": "the mean was learned", "drawn": "one was drawn in every step"}
METRIC_IDS = {"matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"}


def student_card(record: dict[str, Any]) -> str:
    """Markdown with a YAML head, from a student's `run.json` record."""
    layers, teacher = record["student_layers"], record["teacher"]
    return "\n".join(
        [
            "---",
            card_data(record).to_yaml(),
            "---",
            "",
            f"# {record['name']}",
            "",
            f"A {layers}-layer student of a {record['teacher_layers']}-layer teacher on",
            f"`{record['task']}`, trained with pkd from a cache of the teacher's outputs",
            f"(strategy `{record['strategy']}`).",
            "",
            "| | student | teacher |",
            "|---|---|---|",
            *_score_rows(record["scores"], teacher.get("scores") or {}),
            f"| layers | {layers} | {record['teacher_layers']} |",
            f"| block passes | {record['block_passes']} | {record['teacher_layers']} |",
            f"| parameters | {_count(record['parameters'])} | {_count(teacher['parameters'])} |",
            *_sharing(record),
            "",
            "## How it was trained",
            "",
            f"* Started from {_start(record)}.",
            *_pretraining(record["pretrain"]),
            f"* Layers matched (student <- teacher): {_layer_map(record['layer_map'])}.",
            f"* Data: {record['train_rows']:,} rows, {record['labelled_rows']:,} of them labelled,",
            f"  of at most {record['max_length']} tokens.",
            f"* Teacher: `{teacher['name']}`, digest `{teacher['digest'][:16]}`.",
            f"* Cache: `{record['cache']['cache_id'][:16]}` ({record['cache']['dtype']}).",
            *_other_teachers(record),
            f"* Best epoch: {record['best_epoch']} of {record['params']['epochs']}.",
            "",
            "| parameter | value |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in sorted(record["params"].items())),
            "",
            "The record of the run is in `run.json`.",
            "",
            "## Use",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            f'classify = pipeline("text-classification", model="{record["name"]}")',
            "```",
            "",
        ]
    )


def card_data(record: dict[str, Any]) -> Any:
    """The YAML head as `huggingface_hub.ModelCardData`: base model, data, metrics, results."""
    from huggingface_hub import EvalResult, ModelCardData

    task = record["task"]
    data = {"dataset_type": GLUE, "dataset_config": task} if task in GLUE_NAMES else {}
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_name=f"GLUE {task}" if data else task,
            dataset_split=split,
            metric_type=METRIC_IDS.get(metric, metric),
            metric_value=value,
            **({"dataset_type": task} | data),
        )
        for split, of_split in record["scores"].items()
        for metric, value in of_split.items()
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=record["init"]["hub_id"],
        datasets=[GLUE] if data else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        tags=["pkd", "knowledge-distillation", task],
        model_name=record["name"] if results else None,
        eval_results=results or None,
    )


def _sharing(record: dict[str, Any]) -> list[str]:
    """What `--share` makes of size and compute; [] without it."""
    if record["share"] == "none":
        return []
    return [
        f"| parameters in this folder | {_count(record['parameters_expanded'])} | |",
        "",
        f"Its layers are shared (`{record['share']}`): an input goes through blocks",
        f"{', '.join(str(block) for block in record['passes'])}. The parameters that were trained",
        f"are those of {record['student_layers']} blocks, the compute is that of",
        f"{record['block_passes']}; this folder holds a plain model, in which they are copied.",
    ]


def _start(record: dict[str, Any]) -> str:
    name, layers = record["init"]["name"], record["start_layers"]
    match record["params"]["init_layers"]:
        case "random":
            return f"random weights, with the configuration of `{name}`"
        case "alternate":
            return f"layers {', '.join(str(layer) for layer in layers)} of `{name}`"
        case "teacher":
            head = "" if record["pretrain"] else " and the head"
            return f"the first {len(layers)} layers{head} of the teacher itself, `{name}`"
    return f"the first {len(layers)} layers of `{name}`"


def _pretraining(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    labels = ", ".join(f"{rows:,} {name}" for name, rows in found["labels"].items())
    return [
        f"* Pretrained (`{found['kind']}`, {found['epochs']} epochs) on what the teacher does with",
        f"  a training row: {labels}.",
    ]


def _other_teachers(record: dict[str, Any]) -> list[str]:
    """The teachers besides the first; [] without any."""
    if not (teachers := record["other_teachers"]):
        return []
    pairs = zip(teachers, record["identity"]["other_caches"], strict=True)
    each = (f"`{teacher['name']}` (cache `{key[:16]}`)" for teacher, key in pairs)
    weights = record["params"]["cache_weights"]
    return [
        f"* Further teachers: {', '.join(each)}. Of all teachers' logits",
        f"  {HOW[record['params']['teachers']]}, weights {weights or 'equal'};",
        "  the [CLS] vectors are those of the first.",
    ]


def _score_rows(scores: dict[str, Any], teacher: dict[str, Any]) -> list[str]:
    return [
        f"| {split} {name} | {value:.4f} | {_score(teacher.get(split, {}).get(name))} |"
        for split, of_split in scores.items()
        for name, value in of_split.items()
    ]


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"


def _layer_map(pairs: list[list[int]]) -> str:
    return ", ".join(f"{student} <- {teacher}" for student, teacher in pairs) or "none"
