"""pytest tests/pipeline/models/test_load.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models.hidden_states import cls_states
from pipeline.models.identity import identify_init
from pipeline.models.inputs import require_length
from pipeline.models.load import build_classifier, is_hub_id, load_classifier, load_tokenizer
from pipeline.tasks import BUILT_IN
from tests.support.tiny import FAMILIES, save_encoder, tiny_tokenizer

RTE, STSB = BUILT_IN["rte"], BUILT_IN["stsb"]


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("enc") / request.param, request.param)


def logits(model: Any, tokenizer: Any) -> Any:
    with torch.inference_mode():
        inputs = tokenizer("w1 sun", "w2 w3", return_tensors="pt")
        return model.eval()(**inputs, output_hidden_states=True)


def test_a_student_is_the_first_layers_of_its_init(encoder: Path) -> None:
    """Its hidden states are those of the whole encoder, layer by layer; the head is new."""
    from transformers import AutoModel

    tokenizer = load_tokenizer(str(encoder))
    student = build_classifier(str(encoder), RTE, layers=2, seed=0, dropout=None)
    whole = AutoModel.from_pretrained(encoder)
    assert student.training
    assert student.config.num_hidden_layers == 2
    inputs = tokenizer("w1 sun", "w2 w3", return_tensors="pt")
    with torch.inference_mode():
        expected = whole.eval()(**inputs, output_hidden_states=True).hidden_states
    found = logits(student, tokenizer)
    assert len(found.hidden_states) == 3
    for layer in range(3):
        torch.testing.assert_close(found.hidden_states[layer], expected[layer])
    assert found.logits.shape == (1, 2)
    assert student.config.id2label == {0: "entailment", 1: "not_entailment"}


def test_the_pooler_is_kept_and_the_seed_draws_the_head(tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = save_encoder(tmp_path / "e")
    one, same, other = (
        build_classifier(str(folder), RTE, layers=3, seed=seed, dropout=None) for seed in (0, 0, 1)
    )
    pooler = AutoModel.from_pretrained(folder).pooler.dense.weight
    for model in (one, other):
        torch.testing.assert_close(model.bert.pooler.dense.weight, pooler)
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_the_head_of_a_fine_tuned_init_is_not_kept(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "e")
    tuned = build_classifier(str(folder), RTE, layers=None, seed=5, dropout=None)
    tuned.save_pretrained(tmp_path / "tuned")
    again = build_classifier(str(tmp_path / "tuned"), RTE, layers=2, seed=0, dropout=None)
    fresh = build_classifier(str(folder), RTE, layers=2, seed=0, dropout=None)
    assert not torch.equal(again.classifier.weight, tuned.classifier.weight)
    assert torch.equal(again.classifier.weight, fresh.classifier.weight)


def test_dropout_is_set_everywhere(encoder: Path) -> None:
    student = build_classifier(str(encoder), RTE, layers=2, seed=0, dropout=0.25)
    rates = {m.p for m in student.modules() if type(m).__name__ in ("Dropout", "StableDropout")}
    assert rates == {0.25}


def test_regression_has_one_output(tmp_path: Path) -> None:
    model = build_classifier(
        str(save_encoder(tmp_path / "e")), STSB, layers=1, seed=0, dropout=None
    )
    assert model.config.num_labels == 1
    assert model.config.problem_type == "regression"


def test_cls_states_count_from_one() -> None:
    states = tuple(torch.full((2, 3, 4), float(layer)) for layer in range(5))
    found = cls_states(states, (1, 4))
    assert found.shape == (2, 2, 4)
    assert found[0, :, 0].tolist() == [1.0, 4.0]
    assert cls_states(states, ()).shape == (2, 0, 4)


def test_an_encoder_without_a_head_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"not a fine-tuned classifier; weights missing: .*pkd-tea"
    ):
        load_classifier(str(save_encoder(tmp_path / "e")))


def test_too_deep_a_student_names_both_depths(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "e")
    with pytest.raises(ModelError, match="has 4 layers, fewer than the 6 asked for"):
        build_classifier(str(folder), RTE, layers=6, seed=0, dropout=None)


@pytest.mark.parametrize("name", ["data/teachers/rte", "./x", "/no/such", "~/nothing"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_tokenizer(name)


def test_a_hub_id_without_a_network_says_so() -> None:
    assert is_hub_id("bert-base-uncased")
    with pytest.raises(
        ModelError, match=r"bert-base-uncased: no tokenizer .* the hub \(no network"
    ):
        load_tokenizer("bert-base-uncased")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no model could be loaded from that folder"):
        load_classifier(str(tmp_path))


def test_a_tokenizer_that_puts_its_cls_elsewhere_is_refused(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer("bert")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP] [CLS]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"do not start with a \[CLS\] token"):
        load_tokenizer(str(tmp_path))


def test_an_init_is_a_name_and_a_digest_never_a_path(tmp_path: Path) -> None:
    one = identify_init(str(save_encoder(tmp_path / "here" / "enc")))
    two = identify_init(str(save_encoder(tmp_path / "there" / "enc")))
    assert one == two
    assert one.name == "enc"
    assert one.hub_id is None
    assert one != identify_init(str(save_encoder(tmp_path / "other" / "enc", seed=1)))
    (tmp_path / "other" / "enc" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        identify_init(str(tmp_path / "other" / "enc"))


def test_weights_that_do_not_fit_the_configuration_are_not_replaced_by_random_ones(
    tmp_path: Path,
) -> None:
    import json

    folder = save_encoder(tmp_path / "e", layers=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ModelError, match=r"its weights lack encoder\.layer\.2"):
        build_classifier(str(folder), RTE, layers=4, seed=0, dropout=None)


def test_truncated_weights_are_one_message(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "e")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="no model could be loaded from that folder"):
        build_classifier(str(folder), RTE, layers=2, seed=0, dropout=None)


def test_an_input_longer_than_the_encoder_reads_is_refused() -> None:
    from tests.support.tiny import tiny_config

    require_length(64, tiny_config("bert", 2), "e")
    with pytest.raises(ModelError, match="reads at most 64 tokens, max_length is 65"):
        require_length(65, tiny_config("bert", 2), "e")
    with pytest.raises(ModelError, match="reads at most 65 tokens"):  # 66, one before the padding
        require_length(66, tiny_config("roberta", 2), "e")
