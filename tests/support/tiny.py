"""A world built in seconds: words, tokenizers, random encoders, a learnable task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data import Prepared, load_prepared
from pipeline.params import CacheParams, StudentParams, TeacherParams

WORDS = [f"w{number}" for number in range(60)] + ["sun", "rain"]
ROWS = {"train": 150, "dev": 37, "test": 11}  # divide nothing
FAMILIES = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "minilm", "xlm-roberta")

SHAPE = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.2,  # at 0.02 so narrow a model learns nothing in a few steps
    "max_position_embeddings": 64,
}


def tiny_tokenizer(family: str, words: Sequence[str] = WORDS) -> Any:
    """A word-level fast tokenizer with the special tokens and segments of a family."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if family in ("roberta", "xlm-roberta"):
        cls, sep, pad, unk, mask = "<s>", "</s>", "<pad>", "<unk>", "<mask>"
        pair = f"{cls} $A {sep} {sep} $B {sep}"
        names = ["input_ids", "attention_mask"]
    else:
        cls, sep, pad, unk, mask = "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"
        pair = f"{cls} $A {sep} $B:1 {sep}:1"
        names = ["input_ids", "token_type_ids", "attention_mask"]
    if family == "distilbert":
        names = ["input_ids", "attention_mask"]
    vocabulary = {word: place for place, word in enumerate([pad, unk, cls, sep, mask, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unk))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(cls, vocabulary[cls]), (sep, vocabulary[sep])]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token=cls,
        sep_token=sep,
        pad_token=pad,
        unk_token=unk,
        mask_token=mask,
        model_input_names=names,
        model_max_length=64,
    )


def tiny_config(family: str, layers: int, words: Sequence[str] = WORDS) -> Any:
    """The configuration of a tiny model of a family."""
    from transformers import AutoConfig

    shape: dict[str, Any] = {**SHAPE, "num_hidden_layers": layers, "vocab_size": 5 + len(words)}
    kind = "bert" if family == "minilm" else family
    if family == "distilbert":
        shape = {
            "dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": layers,
            "max_position_embeddings": 64, "vocab_size": shape["vocab_size"],
        }  # fmt: skip
    if family in ("roberta", "xlm-roberta"):
        shape |= {"type_vocab_size": 1, "max_position_embeddings": 66}
    if family == "electra":
        shape["embedding_size"] = 16
    if family == "deberta-v2":
        shape |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2}
    return AutoConfig.for_model(kind, pad_token_id=0, **shape)


def save_encoder(
    folder: Path,
    family: str = "bert",
    layers: int = 4,
    seed: int = 0,
    words: Sequence[str] = WORDS,
) -> Path:
    """A random pretrained-like encoder with its tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(seed)
    AutoModel.from_config(tiny_config(family, layers, words)).save_pretrained(folder)
    tiny_tokenizer(family, words).save_pretrained(folder)
    return folder


def write_rte(folder: Path, seed: int = 0) -> Path:
    """GLUE-like RTE files whose label a tiny model can learn: does the pair speak of the sun?"""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in ROWS.items():
        lines = ["index\tsentence1\tsentence2" + ("" if name == "test" else "\tlabel")]
        for index in range(rows):
            label = draw.random() < 0.5
            first = draw.choices(WORDS[:60], k=draw.randint(1, 9))
            first.insert(draw.randint(0, len(first)), "sun" if label else "rain")
            second = draw.choices(WORDS[:60], k=draw.randint(1, 9))
            line = f"{index}\t{' '.join(first)}\t{' '.join(second)}"
            name_of = "entailment" if label else "not_entailment"
            lines.append(line if name == "test" else f"{line}\t{name_of}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


TEACHER = TeacherParams(
    epochs=8, batch_size=16, learning_rate=5e-3, dropout=0.0, max_length=24, precision="float32"
)
STUDENT = StudentParams(
    epochs=2, batch_size=16, learning_rate=1e-3, student_layers=2, precision="float32"
)


@dataclass(frozen=True)
class World:
    """Where everything is."""

    root: Path
    source: Path
    raw: Path
    encoder: Path
    teacher: Path
    cache: Path
    """float32, four shards of training rows."""
    cache16: Path
    """float16, otherwise the same."""

    @property
    def prepared(self) -> Prepared:
        """The data."""
        return load_prepared(self.raw, "rte")


CACHE = CacheParams(dtype="float32", shard_rows=40, batch_tokens=256)


def build_world(root: Path) -> World:
    """Prepare data, fit a teacher, build two caches - through the library, as the commands do."""
    from dataclasses import replace

    from pipeline.caching.build import build_cache
    from pipeline.data.prepare import prepare
    from pipeline.params import DataParams
    from pipeline.tasks import BUILT_IN
    from pipeline.teacher.fit import fit_teacher

    source = write_rte(root / "glue" / "RTE")
    raw = root / "data" / "raw" / "rte"
    prepare(BUILT_IN["rte"], DataParams(source=str(source)), raw)
    encoder = save_encoder(root / "encoder")
    teacher = root / "data" / "teachers" / "rte"
    prepared = load_prepared(raw, "rte")
    fit_teacher(
        prepared=prepared, out=teacher, sources={},
        params=replace(TEACHER, init=str(encoder)),
    )  # fmt: skip
    caches = [root / "data" / "rte.zarr", root / "data" / "rte16.zarr"]
    for path, dtype in zip(caches, ("float32", "float16"), strict=True):
        build_cache(
            prepared=prepared, teacher_name=str(teacher), out=path,
            params=replace(CACHE, dtype=dtype),
        )  # fmt: skip
    return World(root, source, raw, encoder, teacher, *caches)
