"""pytest tests/pipeline/models/test_encode.py"""

from __future__ import annotations

import pyarrow as pa

from pipeline.digests import row_digest
from pipeline.models.encode import encode
from pipeline.tasks import BUILT_IN
from tests.support.tiny import WORDS, tiny_tokenizer

TABLE = pa.table(
    {
        "example_id": pa.array([70, 3, 9], pa.int64()),
        "sentence1": ["w1 w2 w3 w4", "sun", "w1 w2 w3 w4"],
        "sentence2": ["w5", "unheard of", "w5"],
        "label": pa.array([1, None, 0], pa.int64()),
    }
)
CLS, SEP, UNK = 2, 3, 1


def of(word: str) -> int:
    return 5 + WORDS.index(word)


def test_pairs_have_two_segments_and_keep_ids_and_labels() -> None:
    found = encode(TABLE, BUILT_IN["rte"], tiny_tokenizer("bert"), 16)
    words = [of(word) for word in ("w1", "w2", "w3", "w4")]
    assert found["input_ids"][0].as_py() == [CLS, *words, SEP, of("w5"), SEP]
    assert found["token_type_ids"][0].as_py() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert found["input_ids"][1].as_py() == [CLS, of("sun"), SEP, UNK, UNK, SEP]
    assert found["example_id"].to_pylist() == [70, 3, 9]
    assert found["label"].to_pylist() == [1, None, 0]
    digests = found["row_digest"].to_pylist()
    assert digests[0] == digests[2] != digests[1]
    first = found["input_ids"][0].as_py(), found["token_type_ids"][0].as_py()
    assert digests[0] == row_digest(*first)


def test_the_longer_segment_is_cut_first() -> None:
    found = encode(TABLE, BUILT_IN["rte"], tiny_tokenizer("bert"), 6)
    assert found["input_ids"][0].as_py() == [CLS, of("w1"), of("w2"), SEP, of("w5"), SEP]


def test_a_single_sentence_and_a_family_without_segments() -> None:
    table = TABLE.rename_columns(["example_id", "sentence", "sentence2", "label"])
    found = encode(table, BUILT_IN["sst2"], tiny_tokenizer("roberta"), 16)
    assert found["input_ids"][1].as_py() == [CLS, of("sun"), SEP]
    assert found["token_type_ids"].null_count == 3
    assert found["row_digest"][1].as_py() == row_digest([CLS, of("sun"), SEP], None)
