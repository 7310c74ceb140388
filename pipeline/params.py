"""Parameters: one frozen dataclass per command; `pipeline.resolve` finds their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

V = TypeVar("V")


def option(
    default: V,
    help_text: str,
    *,
    choices: tuple[str, ...] = (),
    many: bool = False,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> V:
    """Declare a parameter: its default, the sentence that documents it, and its range.

    With `many` it is text of several `choices`, separated by commas.
    """
    limits = {"above": above, "at_least": at_least, "at_most": at_most}
    metadata = {"help": help_text, "choices": choices, "many": many, "limits": limits}
    declared: V = field(default=default, metadata=metadata)
    return declared


@dataclass(frozen=True, kw_only=True)
class DataParams:
    """`pkd-data prepare`."""

    source: str = option(
        "hub", "`hub`, or a folder: GLUE's TSV files, or csv, tsv, jsonl, parquet."
    )
    max_train_samples: int | None = option(
        None, "Keep only this many training rows, drawn with --seed.", at_least=1
    )
    seed: int = option(0, "Seed of the draw, and of the demo's grammar.", at_least=0)
    unlabelled: str | None = option(
        None, "Files of further training rows, whose labels are not used; separated by commas."
    )
    max_labelled_samples: int | None = option(
        None, "Hide the labels of all training rows but this many, drawn with --seed.", at_least=1
    )
    train_rows: int = option(8000, "Training rows of the demo task.", at_least=2)
    validation_rows: int = option(1000, "Validation rows of the demo task.", at_least=2)
    test_rows: int = option(500, "Test rows of the demo task.", at_least=2)


@dataclass(frozen=True, kw_only=True)
class BaseParams:
    """`pkd-data base`: the demo's own pretrained encoder; as `pretrain.PretrainSettings`."""

    layers: int = option(6, "Transformer blocks.", at_least=1)
    hidden_size: int = option(64, "Width of a hidden state; a multiple of --heads.", at_least=1)
    heads: int = option(4, "Attention heads.", at_least=1)
    dropout: float = option(
        0.0, "Dropout for fine-tuning; pretraining has none.", at_least=0, at_most=0.9
    )
    initializer_range: float = option(
        0.17, "Standard deviation of the first weights; narrow layers need more than 0.02.", above=0
    )
    steps: int = option(1500, "Optimizer steps of masked language modelling.", at_least=5)
    batch_size: int = option(32, "Passages per step.", at_least=1)
    learning_rate: float = option(1e-3, "Peak learning rate of AdamW.", above=0)
    warmup_steps: int = option(
        60, "Steps of rising learning rate, at the start and after each growth.", at_least=0
    )
    pair_swaps: int = option(
        1, "Stories of at most this many swaps also train the sentence-pair objective.", at_least=0
    )
    seed: int = option(0, "Seed of weights, passages and masks.", at_least=0)


@dataclass(frozen=True, kw_only=True)
class FitParams:
    """What teacher and student training share."""

    preset: str | None = option(
        None,
        "A named bundle of parameters: pkd2019, bert-emd, peakd. Beats params.yaml, flags beat it.",
    )
    init: str | None = option(None, "Pretrained encoder to start from: a hub id or a folder.")
    epochs: int = option(4, "Passes over the training rows.", at_least=1)
    batch_size: int = option(32, "Rows per optimizer step.", at_least=1)
    eval_batch_size: int = option(128, "Rows per evaluation batch.", at_least=1)
    learning_rate: float = option(5e-5, "Peak learning rate of AdamW.", above=0)
    weight_decay: float = option(0.01, "Not applied to biases and LayerNorms.", at_least=0)
    warmup: float = option(
        0.1, "Share of the steps with a rising learning rate.", at_least=0, at_most=1
    )
    max_grad_norm: float = option(1.0, "Clip gradients to this norm; 0 = off.", at_least=0)
    dropout: float | None = option(
        None, "Dropout probability; the checkpoint's own if left out.", at_least=0, at_most=0.9
    )
    precision: str = option(
        "auto",
        "Autocast of the training step; auto = bfloat16 where the processor has it.",
        choices=("auto", "float32", "bfloat16"),
    )
    packed: bool = option(
        False,
        "Train without padding: the rows of a batch as one, with FlashAttention; for a GPU, with "
        "--dropout 0.",
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.")
    seed: int = option(0, "Seed of the new head, the order of rows and dropout.", at_least=0)
    keep: str = option(
        "best",
        "The weights to keep: of the epoch that is best on the validation rows, or of the last.",
        choices=("best", "last"),
    )
    report_to: str = option(
        "none",
        "Trackers that get the figures too, beside DVCLive: tensorboard, wandb, mlflow; several by "
        "commas.",
        choices=("none", "tensorboard", "wandb", "mlflow"),
        many=True,
    )


@dataclass(frozen=True, kw_only=True)
class TeacherParams(FitParams):
    """`pkd-teacher fit`."""

    learning_rate: float = option(2e-5, "Peak learning rate of AdamW.", above=0)
    max_length: int = option(128, "Longest input, in tokens; longer ones are cut.", at_least=3)
    folds: int = option(
        0,
        "Fit so many teachers more, each without its share of the rows, for logits of rows that a "
        "teacher never saw (of --pretrain ptp); 0 = none.",
        at_least=0,
    )


@dataclass(frozen=True, kw_only=True)
class CacheParams:
    """`pkd-cache build`."""

    dtype: str = option(
        "float16",
        "Stored type of [CLS]; int8 has a scale for each row and layer.",
        choices=("float16", "float32", "int8"),
    )
    compute: str = option(
        "float32", "Type the teacher computes in.", choices=("float32", "bfloat16")
    )
    layers: str = option("all", "Teacher layers to keep: all, or a list such as 4,8.")
    max_length: int | None = option(
        None, "Longest input, in tokens; left out: the teacher's own record, else 128.", at_least=3
    )
    batch_tokens: int = option(8192, "Tokens per teacher batch, padding included.", at_least=1)
    shard_rows: int = option(4096, "Rows per shard file.", at_least=1)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.")
    teacher_labels: str | None = option(
        None, "The task's label names in the order of the teacher's outputs, e.g. no,yes."
    )
    max_error: float | None = option(
        None, "Refuse to build when a sampled row's relative L2 error is above this.", above=0
    )
    allow_weak_teacher: bool = option(False, "Accept a teacher that is no better than chance.")


@dataclass(frozen=True, kw_only=True)
class StudentParams(FitParams):
    """`pkd-student fit`."""

    strategy: str = option(
        "skip",
        "What [CLS] is taught: finetune and kd (nothing), skip, last, teacher layers such as "
        "2,4,6,8,10, auto (layers chosen from the cache by linear probes), emd, rail, "
        "rail-concat, alp, contrastive, the controls reverse, shuffled, all-to-one, or a class of "
        "your own as module:Class.",
    )
    match_top: int | None = option(
        None,
        "The last student layer learns this teacher layer; of skip, last and the controls.",
        at_least=1,
    )
    student_layers: int = option(3, "Transformer blocks of the student.", at_least=1)
    init_layers: str = option(
        "first",
        "Layers that the student starts from: the first of --init, alternate (every N/M-th), of "
        "the teacher (--init is its folder; its head too), or random weights.",
        choices=("first", "alternate", "teacher", "random"),
    )
    hidden_size: int | None = option(
        None,
        "Another width than that of --init, with --init-layers random; --project is implied.",
        at_least=1,
    )
    share: str = option(
        "none",
        "Pea-KD: run the blocks twice with the same parameters (of six and more the top three), "
        "sps with query and key swapped, sps1 without.",
        choices=("none", "sps", "sps1"),
    )
    pretrain: str = option(
        "none",
        "Pea-KD: learn first whether the teacher is right and confident (ptp), right (ptp1), "
        "confident (ptp2).",
        choices=("none", "ptp", "ptp1", "ptp2"),
    )
    pretrain_epochs: int = option(3, "Passes over the training rows in --pretrain.", at_least=1)
    ptp_thresholds: str = option(
        "median",
        "Confident is above: the median of correct and of wrong rows, one number, or two such as "
        "0.8,0.6.",
    )
    alpha: float = option(0.5, "Weight of KD; 1 - alpha weighs CE.", at_least=0, at_most=1)
    beta: float = option(100.0, "Weight of the patient term.", at_least=0)
    temperature: float = option(10.0, "Softmax temperature T of KD.", above=0)
    reduction: str = option(
        "pkd2019",
        "Unit of alpha and beta: of the authors' code, or of the paper.",
        choices=("pkd2019", "paper"),
    )
    normalize: bool = option(
        True, "L2-normalise [CLS] vectors before comparing them; of skip and its kin."
    )
    project: bool = option(
        False, "Learn a projection where student and teacher are of different widths."
    )
    kd_loss: str = option(
        "kl",
        "Of the logits: kl, mse, annealed (mse with a rising share of the teacher's logits, then "
        "labels alone), uncertainty (kl by the student's certainty).",
        choices=("kl", "mse", "annealed", "uncertainty"),
    )
    label_smoothing: float = option(
        0.0, "Share of a label that is spread over all classes.", at_least=0, at_most=0.99
    )
    teacher_outputs: str = option(
        "own",
        "A row's own logits; or, as controls, their class's mean, or another row's of its class "
        "(its own where the class has no other).",
        choices=("own", "class-mean", "permuted"),
    )
    teachers: str = option(
        "averaged",
        "Of several caches: their averaged softened outputs, or one teacher drawn each step.",
        choices=("averaged", "drawn"),
    )
    cache_weights: str | None = option(
        None, "Weights of several caches, in their order, such as 0.7,0.3; left out: equal."
    )
    emd_weights: str = option(
        "l1",
        "Layer weights of emd: l1 (the authors' code), softmax (the paper), fixed.",
        choices=("l1", "softmax", "fixed"),
    )
    emd_temperature: float = option(1.0, "Temperature of emd's softmax weights.", above=0)
    alp_scale: bool = option(False, "alp: divide attention scores by the root of the hidden size.")
    match_size: int = option(128, "Size of the shared space of rail and contrastive.", at_least=1)
    negatives: int = option(100, "Negatives for each row of contrastive.", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ReportParams:
    """`pkd-report build`."""

    latency_rows: int = option(
        128, "Validation rows for the measured speed; 0 = do not measure.", at_least=0
    )
    similarity_rows: int = option(
        512, "Validation rows for the layer similarity; 0 = leave it out.", at_least=0
    )
    disagreements: int = option(
        5, "Rows shown as text where students err and the teacher does not; 0 = none.", at_least=0
    )
    device: str = option("auto", "Where models run: auto, cpu, cuda, cuda:1.")


PARAMS_OF_SECTION: dict[str, type[Any]] = {
    "data": DataParams,
    "base": BaseParams,
    "teacher": TeacherParams,
    "cache": CacheParams,
    "student": StudentParams,
    "report": ReportParams,
}
