"""A shelf of run folders: a random BERT teacher, its cache, and students with records."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from pipeline.digests import digest_tokenizer, row_digest
from pipeline.files import write_json
from pipeline.models.identity import identify_model
from pipeline.report.sources import Sources
from pipeline.store.examples import schema
from pipeline.store.stored import encode_cls
from pipeline.store.writer import CacheWriter
from pipeline.student.logits import VALIDATION_LOGITS, logits_parquet
from tests.support.synthetic import described, plan

HOSTILE_WORDS = ("<script>alert(1)</script>", "</p><b>", "a|b", "`x`", "&amp;")
TEACHER_LAYERS, HIDDEN, ROWS = 4, 16, 37
MAPS = {"finetune": [], "kd": [], "skip": [[1, 2]], "last": [[1, 3]]}


def tiny_bert(
    layers: int, seed: int, hidden: int = HIDDEN, words: int = 64
) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        num_labels=2,
    )
    return BertForSequenceClassification(config).eval()


def tiny_distilbert(layers: int, seed: int) -> DistilBertForSequenceClassification:
    """Of a family without token types."""
    torch.manual_seed(seed)
    config = DistilBertConfig(
        vocab_size=64,
        dim=HIDDEN,
        n_layers=layers,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=32,
        num_labels=2,
    )
    return DistilBertForSequenceClassification(config).eval()


def examples(words: int = 64, typed: bool = True) -> pa.Table:
    rng = np.random.default_rng(7)
    ids = [rng.integers(5, words, size=int(n)).tolist() for n in rng.integers(3, 20, size=ROWS)]
    types = [[0] * len(row) if typed else None for row in ids]
    columns = {
        "example_id": range(ROWS),
        "input_ids": ids,
        "token_type_ids": types,
        "label": rng.integers(0, 2, size=ROWS).tolist(),
        "row_digest": [row_digest(i, t) for i, t in zip(ids, types, strict=True)],
    }
    return pa.table(
        {
            name: pa.array(value, type=schema(False).field(name).type)
            for name, value in columns.items()
        }
    )


def word_tokenizer() -> Any:
    """64 words; some of them would be markup on a page that does not escape."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *HOSTILE_WORDS]
    words += [f"w{number}" for number in range(len(words), 64)]
    vocabulary = {word: place for place, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )


def teacher_states(model: Any, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(rows, layers, hidden) [CLS] vectors and (rows, 2) logits, one row at a time."""
    cls, logits = [], []
    with torch.inference_mode():
        for row in table["input_ids"].to_pylist():
            output = model(torch.tensor([row]), output_hidden_states=True)
            cls.append(torch.stack([h[0, 0] for h in output.hidden_states[1:]]).numpy())
            logits.append(output.logits[0].numpy())
    return np.stack(cls), np.stack(logits)


def write_cache(path: Path, model: Any, digest: str, name: str = "rte", **tokens: Any) -> str:
    """A cache whose rows are `examples(**tokens)`; other words are another tokenizer."""
    table = examples(**tokens)
    cls, logits = teacher_states(model, table)
    layers = tuple(range(1, TEACHER_LAYERS + 1))
    planned = plan(
        identity={"test": digest}, layers=layers, hidden_size=HIDDEN, dtype="float32",
        shard_rows=16,
    )  # fmt: skip
    with CacheWriter(path, planned) as writer:
        writer.add_split("validation", table)
        for shard in writer.unfinished("validation"):
            rows = writer.rows_of("validation", shard)
            stored = encode_cls(cls[rows], "float32", layers)
            writer.write_shard("validation", shard, logits[rows], stored)
        fields = described(layers)
        teacher = fields["teacher"] | {"name": name, "digest": digest, "layers": TEACHER_LAYERS}
        words = tokens.get("words", 64)
        known = digest_tokenizer(word_tokenizer()) if words == 64 else f"{words:064x}"
        tokenizer = {"name": name, "digest": known, "pad_id": 0, "vocab_size": words}
        manifest = writer.finish(
            fields | {"teacher": teacher, "tokenizer": tokenizer, "max_length": 32}
        )
    return manifest.cache_id


@dataclass
class Shelf:
    """Folders under one root, and how to add a student."""

    root: Path
    teacher_digest: str
    cache_id: str

    @property
    def sources(self) -> Sources:
        return Sources(
            students=self.root / "students",
            teachers=self.root / "teachers",
            caches=self.root,
            metrics=self.root / "metrics",
        )

    def record(self, **changes: Any) -> dict[str, Any]:
        """A student's record; `score` and `losses` shape its history."""
        strategy, seed = changes.pop("strategy", "skip"), changes.pop("seed", 0)
        score, depth = changes.pop("score", 0.66), changes.pop("depth", 2)
        terms = {"finetune": ("ce",), "kd": ("ce", "kd")}.get(strategy, ("ce", "kd", "pt"))
        content: dict[str, Any] = {
            "format": 1,
            "kind": "student",
            "name": f"rte-{strategy}-{depth}-s{seed}",
            "task": "rte",
            "label_names": ["entailment", "not_entailment"],
            "metric": "accuracy",
            "strategy": strategy,
            "layer_map": MAPS.get(strategy, []),
            "student_layers": depth,
            "teacher_layers": TEACHER_LAYERS,
            "seed": seed,
            "params": {"alpha": 0.5, "beta": 100.0, "seed": seed, "strategy": strategy},
            "params_from": {},
            "cache": {"name": "rte.zarr", "cache_id": self.cache_id, "content_digest": "c" * 64},
            "teacher": {
                "name": "rte",
                "digest": self.teacher_digest,
                "parameters": 20_000,
                "scores": {"validation": {"accuracy": 0.7}},
            },
            "init": {"hub_id": None, "name": "base", "digest": "i" * 64},
            "scores": {"validation": {"accuracy": score}},
            "best_epoch": 3,
            "history": [
                {
                    "epoch": epoch,
                    "step": 10 * epoch,
                    "learning_rate": 1e-5,
                    "losses": dict.fromkeys(terms, 0.5 / epoch)
                    | {"total": len(terms) * 0.5 / epoch},
                    "scores": {"validation": {"accuracy": score - 0.02 * (3 - epoch)}},
                    "seconds": 2.0,
                }
                for epoch in (1, 2, 3)
            ],
            "parameters": 10_000,
            "size_bytes": 40_000,
            "train_rows": 100,
            "labelled_rows": 100,
            "seconds": 6.0,
            "rows_per_second": 50.0,
            "device": "cpu",
            "precision": "float32",
            "versions": {},
        }
        return content | changes

    def add(self, name: str | None = None, **changes: Any) -> Path:
        """Write a student folder with a model in it."""
        record = self.record(**changes)
        folder = self.sources.students / (name or record["name"])
        shutil.copytree(self.root / "student-model", folder)
        write_json(folder / "run.json", record)
        return folder

    def add_other_teacher(self, teacher: Any, **tokens: Any) -> dict[str, Any]:
        """A second teacher with its folder and its cache, whose rows are `examples(**tokens)`.

        Returns:
            What the record of a student of it says of both.
        """
        digest = identify_model(teacher)
        folder = self.sources.teachers / "other"
        teacher.save_pretrained(folder)
        shutil.copy(self.sources.teachers / "rte" / "teacher.json", folder)
        cache_id = write_cache(self.root / "other.zarr", teacher, digest, "other", **tokens)
        known = self.record()
        return {
            "cache": known["cache"] | {"name": "other.zarr", "cache_id": cache_id},
            "teacher": known["teacher"] | {"name": "other", "digest": digest},
        }

    def answer(self, logits_NK: np.ndarray, **changes: Any) -> Path:
        """Write a student that answered every validation row; its score is that of its answers."""
        labels_N = np.array(examples()["label"].to_pylist())
        score = float((logits_NK.argmax(-1) == labels_N).mean())
        folder = self.add(score=score, **changes)
        ids = list(range(len(labels_N)))
        content = logits_parquet([("validation", ids, logits_NK.astype(np.float32))])
        (folder / VALIDATION_LOGITS).write_bytes(content)
        return folder

    def add_grid(self) -> None:
        """Four strategies, two seeds each; scores worked by hand in the tests."""
        scores = {"finetune": (0.60, 0.62), "kd": (0.63, 0.65), "skip": (0.66, 0.68)}
        for strategy, of_seeds in (scores | {"last": (0.64, 0.66)}).items():
            for seed, score in enumerate(of_seeds):
                self.add(strategy=strategy, seed=seed, score=score)


def build_prototype(root: Path) -> Shelf:
    """Teacher, cache and metrics; no students."""
    teacher = tiny_bert(TEACHER_LAYERS, seed=1)
    folder = root / "teachers" / "rte"
    teacher.save_pretrained(folder)
    digest = identify_model(teacher)
    write_json(
        folder / "teacher.json",
        {
            "format": 1,
            "kind": "teacher",
            "task": "rte",
            "scores": {"validation": {"accuracy": 0.7}},
            "parameters": 20_000,
            "size_bytes": 80_000,
        },
    )
    cache_id = write_cache(root / "rte.zarr", teacher, digest)
    write_json(
        root / "metrics" / "cache-rte.json",
        {
            "task": "rte",
            "rows": 137,
            "seconds": 30.0,
            "train_pass_seconds": 20.0,
            "rows_per_second": 5.0,
            "size_bytes": 1000,
            "device": "cpu",
        },
    )
    tiny_bert(2, seed=2).save_pretrained(root / "student-model")
    word_tokenizer().save_pretrained(root / "student-model")
    return Shelf(root, digest, cache_id)


def copy_of(prototype: Shelf, root: Path) -> Shelf:
    """The same on a path of its own, to be changed."""
    shutil.copytree(prototype.root, root)
    (root / "students").mkdir()
    return Shelf(root, prototype.teacher_digest, prototype.cache_id)
