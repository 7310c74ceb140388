"""pytest tests/pipeline/models/test_trained.py - what a classifier's record says."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import BertConfig, RobertaConfig

from pipeline.errors import ModelError
from pipeline.models.trained import record_of, trained_length
from tests.support.tiny import World


def test_a_teachers_record_is_found(world: World) -> None:
    record = record_of(world.teacher)
    assert record["max_length"] == 24
    assert trained_length(record, BertConfig()) == 24


def test_a_student_that_was_a_teacher_is_a_student(tmp_path: Path) -> None:
    (tmp_path / "teacher.json").write_text('{"max_length": 8}')
    (tmp_path / "run.json").write_text('{"max_length": 16}')
    assert record_of(tmp_path)["max_length"] == 16


def test_without_a_record_it_is_128_or_what_the_model_reads() -> None:
    assert record_of("somebody/bert-base-rte") == {}
    assert trained_length({}, BertConfig(max_position_embeddings=512)) == 128
    assert trained_length({}, BertConfig(max_position_embeddings=64)) == 64
    # RoBERTa counts positions from the padding token on
    assert trained_length({}, RobertaConfig(max_position_embeddings=66, pad_token_id=1)) == 64


def test_a_record_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(ModelError, match=r"run.json: expected a JSON object, found \[1, 2\]"):
        record_of(tmp_path)
