"""Files of a made-up task with the token lengths of a real one: text, tokenizer, random models."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.lengths import all_lengths
from benchmarks.shapes import Shape
from pipeline.models.load import quiet_libraries
from pipeline.params import CacheParams

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TASK = "sst2"  # one sentence, so that its words and two tokens are its length


@dataclass(frozen=True, kw_only=True)
class World:
    """Where everything is."""

    raw: Path
    teacher: Path
    encoder: Path

    @property
    def prepared(self) -> Any:
        """The data."""
        from pipeline.data import load_prepared

        return load_prepared(self.raw, TASK)

    def build(self, out: Path, device: torch.device) -> Any:
        """Stage one with default options; the teacher is random, so no better than chance."""
        from pipeline.caching.build import build_cache

        params = CacheParams(allow_weak_teacher=True, device=device.type)
        return build_cache(
            prepared=self.prepared, teacher_name=str(self.teacher), out=out, params=params
        )


def make_world(
    root: Path, like: str, rows: dict[str, int], teacher: Shape, encoder: Shape
) -> World:
    """Prepared data of `rows` (train, dev), a teacher and an encoder.

    Args:
        root: an empty folder.
        like: the task whose lengths the rows have.
        rows: how many, by split.
        teacher: its shape.
        encoder: what students start from.
    """
    from pipeline.data.prepare import prepare
    from pipeline.params import DataParams
    from pipeline.tasks import BUILT_IN

    quiet_libraries()
    words = [f"w{number}" for number in range(teacher.vocabulary - len(SPECIAL))]
    world = World(raw=root / "raw", teacher=root / "teacher", encoder=root / "encoder")
    _write_text(root / "text", like, rows, words)
    prepare(BUILT_IN[TASK], DataParams(source=str(root / "text")), world.raw)
    for folder, shape in ((world.teacher, teacher), (world.encoder, encoder)):
        shape.classifier(torch.device("cpu")).save_pretrained(folder)
        _tokenizer(words).save_pretrained(folder)
    return world


def _write_text(folder: Path, like: str, rows: dict[str, int], words: list[str]) -> None:
    draw, lengths = random.Random(0), iter(all_lengths(like).tolist() * 2)
    folder.mkdir(parents=True)
    for split, count in rows.items():
        lines = ["sentence\tlabel"]
        for _ in range(count):
            text = " ".join(draw.choices(words, k=max(1, next(lengths) - 2)))
            lines.append(f"{text}\t{draw.randint(0, 1)}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def _tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    places = {word: place for place, word in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordLevel(places, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", places["[CLS]"]), ("[SEP]", places["[SEP]"])],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        unk_token="[UNK]", mask_token="[MASK]", model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
