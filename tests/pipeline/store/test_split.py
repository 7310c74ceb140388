"""pytest tests/pipeline/store/test_split.py - a cache in the hands of other programs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
)

from pipeline import TeacherCache
from pipeline.errors import CacheMismatchError
from pipeline.store.split import CachedSplit
from tests.support import synthetic
from tests.support.tables import table_of, write_table
from tests.support.tiny import World, tiny_tokenizer

SENTENCES = ("sentence1", "sentence2")


@pytest.fixture
def made_up(tmp_path: Path) -> CachedSplit:
    """37 rows of random values, layers 2, 3 and 7."""
    synthetic.write(tmp_path / "c.zarr")
    return TeacherCache.open(tmp_path / "c.zarr")["train"]


@pytest.fixture
def train(world: World) -> CachedSplit:
    return TeacherCache.open(world.cache)["train"]


def texts(world: World, split: str = "train") -> datasets.Dataset:
    """The raw rows of a split."""
    return datasets.Dataset.from_dict(pq.read_table(world.raw / f"{split}.parquet").to_pydict())


def tokenised(
    data: datasets.Dataset, tokenizer: Any, max_length: int = 24, **more: Any
) -> datasets.Dataset:
    """As anyone would tokenise for a Trainer."""

    def encode(batch: dict[str, list[str]]) -> Any:
        pair = (batch[name] for name in SENTENCES)
        return tokenizer(*pair, truncation=True, max_length=max_length, **more)

    return data.map(encode, batched=True, batch_size=64)


@pytest.fixture
def permuted(world: World) -> datasets.Dataset:
    """All training rows in another order, by the teacher's tokenizer."""
    data = tokenised(texts(world), AutoTokenizer.from_pretrained(world.teacher))
    return data.shuffle(seed=3)


def test_rows_come_in_the_order_asked_for(made_up: CachedSplit) -> None:
    ids = made_up.examples["example_id"].to_pylist()
    assert made_up.rows([ids[30], ids[2], ids[30]]) == [30, 2, 30]
    assert made_up.rows(np.array(ids)) == list(range(37))
    assert made_up.rows(torch.tensor(ids[5:7])) == [5, 6]
    assert made_up.rows([]) == []
    assert (len(made_up), len(made_up.cache)) == (37, 37)


def test_ids_that_are_not_there_are_counted_and_named(made_up: CachedSplit) -> None:
    known = made_up.examples["example_id"][0].as_py()
    with pytest.raises(CacheMismatchError, match=r"lacks 4 of 5 examples \(-1, -2, -3, \.\.\.\)"):
        made_up.rows([-1, known, -2, -3, -4])
    with pytest.raises(TypeError):
        made_up.rows(["0"])  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_tensors_of_chosen_layers(tmp_path: Path, dtype: str) -> None:
    synthetic.write(tmp_path / "c.zarr", dtype=dtype)
    found = TeacherCache.open(tmp_path / "c.zarr")["train"].tensors([7, 2])
    logits, cls = synthetic.values()
    wanted = torch.from_numpy(cls[:, [2, 0]])
    assert found.layers == (7, 2)
    assert found.cls.shape == (37, 2, 5)
    assert found.cls.dtype == (torch.float16 if dtype == "float16" else torch.float32)
    assert torch.equal(found.logits, torch.from_numpy(logits))
    # half a step of the largest value: 1 / 254 of it for int8
    steps = {"float32": 0.0, "float16": 2**-11, "int8": 1 / 254 + 1e-6}
    largest = wanted.abs().amax(-1, keepdim=True)
    assert bool(((found.cls.float() - wanted).abs() <= steps[dtype] * largest).all())


def test_tensors_of_no_layer_and_on_a_device(made_up: CachedSplit) -> None:
    assert made_up.tensors().cls.shape == (37, 0, 5)
    there = made_up.tensors([3], device="meta")
    assert (there.cls.device.type, there.logits.device.type) == ("meta", "meta")


def test_what_is_not_cached_is_refused(made_up: CachedSplit) -> None:
    for ask in (made_up.tensors, made_up.dataset):
        with pytest.raises(CacheMismatchError, match="layer 4 is not cached; it has 2, 3, 7"):
            ask([4])
    with pytest.raises(CacheMismatchError, match="no split `dev`; it has train"):
        made_up.cache["dev"]


def test_a_dataset_gives_tokens_labels_and_the_teacher(made_up: CachedSplit) -> None:
    data, table, (logits, cls) = made_up.dataset([3, 2]), made_up.examples, synthetic.values()
    assert isinstance(data, Dataset)
    assert len(data) == 37
    for row in range(37):
        item = data[row]
        assert set(item) == {
            "input_ids", "token_type_ids", "labels", "teacher_logits", "teacher_cls"
        }  # fmt: skip
        assert item["input_ids"] == table["input_ids"][row].as_py()
        assert item["token_type_ids"] == table["token_type_ids"][row].as_py()
        label = table["label"][row].as_py()
        assert item["labels"] == (-100 if label is None else label)
        np.testing.assert_array_equal(item["teacher_logits"], logits[row])
        np.testing.assert_array_equal(item["teacher_cls"], cls[row, [1, 0]].astype("f2"))
    assert data[-1]["input_ids"] == data[36]["input_ids"]
    assert data[np.int64(4)]["input_ids"] == data[4]["input_ids"]
    for beyond in (37, -38):
        with pytest.raises(IndexError):
            data[beyond]
    assert "teacher_cls" not in made_up.dataset()[0]


def test_labels_of_regression_and_of_a_split_without_any(tmp_path: Path) -> None:
    fields = synthetic.described()
    fields["task"] |= {"label_names": [], "metrics": ["pearson"]}
    fields["teacher"] |= {"output_order": [0]}
    rows = [[1, 2], [3], [4, 4, 4]]
    scored = table_of(rows, [0.5, None, 4.25], regression=True)
    cache = write_table(tmp_path / "a.zarr", scored, outputs=1, fields=fields)
    data = cache["train"].dataset([2])
    assert [data[0]["labels"], data[2]["labels"]] == [0.5, 4.25]
    assert np.isnan(data[1]["labels"])
    assert data[0]["teacher_logits"].shape == (1,)
    bare = table_of(rows, [None] * 3, types=False)
    item = write_table(tmp_path / "b.zarr", bare)["train"].dataset()[1]
    assert set(item) == {"input_ids", "teacher_logits"}


def test_an_int8_dataset_gives_decoded_vectors(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "c.zarr", dtype="int8")
    train = TeacherCache.open(tmp_path / "c.zarr")["train"]
    data, tensors = train.dataset([2, 7]), train.tensors([2, 7])
    for row in (0, 36):
        assert data[row]["teacher_cls"].dtype == np.float32
        np.testing.assert_array_equal(data[row]["teacher_cls"], tensors.cls[row].numpy())


def test_a_collator_pads_and_stacks(world: World, train: CachedSplit) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world.teacher)
    loader = DataLoader(train.dataset([1, 4]), 8, collate_fn=DataCollatorWithPadding(tokenizer))
    batch, wanted = next(iter(loader)), train.tensors([1, 4])
    lengths = [len(ids) for ids in train.examples["input_ids"].to_pylist()[:8]]
    assert batch["input_ids"].shape == batch["token_type_ids"].shape == (8, max(lengths))
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["labels"].tolist() == train.examples["label"].to_pylist()[:8]
    assert torch.equal(batch["teacher_logits"], wanted.logits[:8])
    assert torch.equal(batch["teacher_cls"], wanted.cls[:8])
    assert len(list(loader)) == 19


def test_a_dataset_travels_to_the_workers_of_a_loader(made_up: CachedSplit) -> None:
    data = made_up.dataset([2])
    again = pickle.loads(pickle.dumps(data))
    assert again[5].keys() == data[5].keys()
    loader = DataLoader(data, None, sampler=[5, 36], num_workers=1, multiprocessing_context="spawn")
    for row, item in zip((5, 36), loader, strict=True):
        assert list(item["input_ids"]) == data[row]["input_ids"]
        np.testing.assert_array_equal(item["teacher_cls"], data[row]["teacher_cls"])


def test_joined_values_are_those_of_the_live_teacher(
    world: World, train: CachedSplit, permuted: datasets.Dataset
) -> None:
    joined, values = train.align(permuted), train.tensors([2, 4])
    assert joined["example_id"][:] != list(range(150)), "the order must be another"
    teacher = AutoModelForSequenceClassification.from_pretrained(world.teacher).eval()
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(world.teacher))
    inputs = ["input_ids", "token_type_ids", "teacher_row"]
    for batch in DataLoader(joined.select_columns(inputs), 16, collate_fn=collate):
        rows = batch.pop("teacher_row")
        with torch.inference_mode():
            live = teacher(**batch, output_hidden_states=True)
        torch.testing.assert_close(values.logits[rows], live.logits, atol=1e-5, rtol=1e-5)
        for place, layer in enumerate((2, 4)):
            exact = live.hidden_states[layer][:, 0]
            torch.testing.assert_close(values.cls[rows, place], exact, atol=1e-5, rtol=1e-5)


def test_what_is_left_of_a_dataset_after_the_join(
    train: CachedSplit, permuted: datasets.Dataset
) -> None:
    joined = train.align(permuted)
    assert joined.column_names == [*permuted.column_names, "teacher_row"]
    assert joined["sentence1"][:] == permuted["sentence1"][:]
    assert joined["teacher_row"][:] == train.rows(permuted["example_id"])
    other = train.align(joined, column="second")
    assert other["second"][:] == joined["teacher_row"][:]
    with pytest.raises(ValueError, match="has a column teacher_row already"):
        train.align(joined)


def test_some_rows_repeated_rows_and_no_rows(
    train: CachedSplit, permuted: datasets.Dataset
) -> None:
    chosen = permuted.select([9, 4, 9, 9])
    assert train.align(chosen)["teacher_row"][:] == train.rows(chosen["example_id"])
    assert train.align(permuted.select([])).num_rows == 0


def test_a_formatted_dataset_stays_formatted(
    train: CachedSplit, permuted: datasets.Dataset
) -> None:
    joined = train.align(permuted.with_format("torch", columns=["input_ids", "label"]))
    item = joined[3]
    assert set(item) == {"input_ids", "label", "teacher_row"}
    assert int(item["teacher_row"]) == train.rows([permuted[3]["example_id"]])[0]


def test_repeated_rows_of_a_cache(tmp_path: Path) -> None:
    table = table_of([[1, 2], [3], [1, 2]], [0, 1, 1])
    train = write_table(tmp_path / "c.zarr", table)["train"]
    rows = {"input_ids": [[3], [1, 2]], "token_type_ids": [[0], [0, 0]]}
    assert train.matching_rows(datasets.Dataset.from_dict(rows)).tolist() == [1, 0]


def test_a_family_without_token_types_needs_none(tmp_path: Path) -> None:
    table = table_of([[1, 2], [3]], [0, 1], types=False)
    train = write_table(tmp_path / "c.zarr", table)["train"]
    bare = datasets.Dataset.from_dict({"input_ids": [[3], [1, 2]]})
    assert train.matching_rows(bare).tolist() == [1, 0]
    typed = bare.add_column("token_type_ids", [[0], [0, 0]])
    assert train.matching_rows(typed).tolist() == [1, 0]


def refusal(split: CachedSplit, data: Any) -> str:
    with pytest.raises(CacheMismatchError) as found:
        split.align(data)
    return str(found.value)


def test_padded_rows_are_refused_with_a_hint(world: World, train: CachedSplit) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world.teacher)
    data = tokenised(texts(world), tokenizer, padding="max_length")
    short = sum(len(ids) < 24 for ids in train.examples["input_ids"].to_pylist())
    text = refusal(train, data)
    assert f"{short} of 150 rows are not in train" in text
    assert text.endswith(
        f"{short} of them are padded; tokenise without padding, which is a collator's work."
    )
    tokenizer.padding_side = "left"
    assert "are padded" in refusal(train, tokenised(texts(world), tokenizer, padding="max_length"))


def test_other_lengths_are_refused(world: World, train: CachedSplit) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world.teacher)
    lengths = [len(ids) for ids in train.examples["input_ids"].to_pylist()]
    text = refusal(train, tokenised(texts(world), tokenizer, max_length=9))
    cut = sum(length > 9 for length in lengths)
    assert f"{cut} of 150 rows are not in train (rows " in text
    assert "They have up to 9 tokens" in text
    assert "truncation=True, max_length=24" in text
    long = datasets.Dataset.from_dict({name: ["w1 " * 20] * 5 for name in SENTENCES})
    text = refusal(train, tokenised(long, tokenizer, max_length=40))
    assert "5 of 5 rows are not in train (rows 0, 1, 2, ...)" in text
    assert "5 of them are longer than the teacher's 24 tokens" in text


def test_another_tokenizer_is_refused(world: World, train: CachedSplit) -> None:
    other = tiny_tokenizer("bert")
    other.add_tokens([f"w{number}" for number in range(60, 90)])
    other.backend_tokenizer.model = type(other.backend_tokenizer.model)(
        {word: 100 + place for place, word in enumerate(other.get_vocab())}, unk_token="[UNK]"
    )
    text = refusal(train, tokenised(texts(world), other))
    assert "150 of 150 rows" in text
    assert "150 of them have token ids beyond 67 words; use the tokenizer rte." in text
    bare = tokenised(texts(world), tiny_tokenizer("distilbert"))
    assert "the dataset has no column token_type_ids" in refusal(train, bare)


def test_rows_of_another_split_and_changed_texts_are_refused(
    world: World, train: CachedSplit
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world.teacher)
    validation = tokenised(texts(world, "validation"), tokenizer)
    known = set(train.examples["row_digest"].to_pylist())
    elsewhere = train.cache["validation"].examples["row_digest"].to_pylist()
    missing = sum(digest not in known for digest in elsewhere)
    assert f"{missing} of them are in validation." in refusal(train, validation)
    changed = texts(world).map(
        lambda row, place: {"sentence1": row["sentence1"] + " sun sun"} if place == 7 else row,
        with_indices=True,
    )
    text = refusal(train, tokenised(changed, tokenizer))
    assert "1 of 150 rows are not in train (rows 7)" in text
    assert "If their texts were changed since, build the cache again." in text


def test_what_is_no_tokenised_dataset_is_refused(world: World, train: CachedSplit) -> None:
    raw = texts(world)
    text = refusal(train, raw)
    assert "no column input_ids and no token_type_ids (it has example_id, sentence1" in text
    with pytest.raises(TypeError, match="found DatasetDict; name one split of it"):
        train.align(datasets.DatasetDict(train=raw))
    with pytest.raises(TypeError, match=r"expected a datasets\.Dataset, found list"):
        train.align([{"input_ids": [1]}])
