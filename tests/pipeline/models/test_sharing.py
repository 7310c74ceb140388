"""pytest tests/pipeline/models/test_sharing.py

Shapes: B rows, A heads, S tokens, D size of a head.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.batches import Rows
from pipeline.errors import ModelError
from pipeline.models.load import build_classifier, load_classifier
from pipeline.models.sharing import expanded_parameters, passes, share_layers, unshared
from pipeline.models.sizes import parameter_counts
from pipeline.params import StudentParams
from pipeline.store.reader import TeacherCache
from pipeline.student.fit import fit_student
from pipeline.student.recipe import default_folder, settle
from pipeline.tasks import BUILT_IN
from pipeline.training.evaluate import evaluate
from pipeline.training.loop import make_optimizer
from tests.support.runs import strategy_for
from tests.support.tiny import STUDENT, World, save_encoder, tiny_tokenizer

RTE = BUILT_IN["rte"]


class StoppedError(Exception):
    """Stands for a kill."""


def shared_student(folder: Path, layers: int, share: str = "sps", family: str = "bert") -> Any:
    encoder = save_encoder(folder / f"{family}-{layers}", family, layers=layers)
    model = build_classifier(str(encoder), RTE, layers=layers, seed=0, dropout=0.0)
    torch.manual_seed(7)
    for parameter in model.parameters():  # no bias and no LayerNorm as it was made
        parameter.data += 0.05 * torch.randn_like(parameter)
    return share_layers(model, share).eval()


def inputs_of(family: str = "bert") -> Any:
    texts = ["w1 sun w2 w3", "w4"], ["w5 w6", "rain w7 w8"]
    return tiny_tokenizer(family)(*texts, return_tensors="pt", padding=True)


def fit(world: World, out: Path, *, resume: bool = False, **changes: Any) -> dict[str, Any]:
    params = replace(STUDENT, **({"init": str(world.encoder), "share": "sps"} | changes))
    _, record = fit_student(
        cache_path=world.cache16, out=out, params=params, sources={}, resume=resume
    )
    return record


@pytest.fixture(scope="module")
def student(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("students") / "rte-skip-2-sps-s0"
    fit(world, out)
    return out


def test_the_passes_of_the_paper() -> None:
    assert passes(1, "sps") == (1, 1)
    assert passes(3, "sps") == passes(3, "sps1") == (1, 2, 3, 1, 2, 3)
    assert passes(6, "sps") == (1, 2, 3, 4, 5, 6, 4, 5, 6)
    assert passes(3, "none") == (1, 2, 3)


@pytest.mark.parametrize(
    ("layers", "pairs"),
    [
        (1, [(1, 6)]),
        (2, [(1, 3), (2, 6), (3, 9)]),
        (3, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),
        (6, [(3, 4), (6, 8)]),
    ],
)
def test_the_layer_maps_of_the_authors_code(layers: int, pairs: list[tuple[int, int]]) -> None:
    params = replace(STUDENT, strategy="skip", student_layers=layers, share="sps")
    strategy = strategy_for(params, teacher_layers=12, student_layers=len(passes(layers, "sps")))
    assert list(strategy.pairs) == pairs
    assert strategy.teacher_layers == tuple(teacher for _, teacher in pairs)


def attention_inputs(model: Any, block: Any, hidden_BSH: Tensor) -> tuple[Tensor, Tensor]:
    """The (B, A, S, D) queries and keys that a block's attention function is given."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    seen: list[tuple[Tensor, Tensor]] = []

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
        seen.append((query, key))
        return value.transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    before = model.config._attn_implementation
    model.config._attn_implementation = "spy"
    block(hidden_BSH)
    model.config._attn_implementation = before
    return seen[0]


@pytest.mark.parametrize("family", ["bert", "minilm", "roberta", "xlm-roberta", "electra"])
@pytest.mark.parametrize("share", ["sps", "sps1"])
def test_the_scores_of_the_second_pass_are_the_transpose_of_the_firsts(
    tmp_path: Path, share: str, family: str
) -> None:
    model = shared_student(tmp_path, 2, share, family)
    blocks = model.base_model.encoder.layer
    hidden_BSH = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        query, key = attention_inputs(model, blocks[1], hidden_BSH)
        first_BASS = query @ key.transpose(2, 3)
        query, key = attention_inputs(model, blocks[3], hidden_BSH)
        second_BASS = query @ key.transpose(2, 3)
    assert (first_BASS - first_BASS.transpose(2, 3)).abs().max() > 0.1  # it is not symmetric
    expected_BASS = first_BASS.transpose(2, 3) if share == "sps" else first_BASS
    torch.testing.assert_close(second_BASS, expected_BASS)


def test_each_parameter_counts_once_and_is_optimized_once(tmp_path: Path) -> None:
    plain = build_classifier(
        str(save_encoder(tmp_path / "e", layers=3)), RTE, layers=3, seed=0, dropout=None
    )
    count = sum(p.numel() for p in plain.parameters())
    block = sum(p.numel() for p in plain.bert.encoder.layer[0].parameters())
    model = share_layers(plain, "sps")
    assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == 6
    assert parameter_counts(model)["total"] == count
    assert expanded_parameters(model) == count + 3 * block
    optimizer, _ = make_optimizer(torch.nn.ModuleList([model]), STUDENT, 10)
    optimized = [p for group in optimizer.param_groups for p in group["params"]]
    assert len({id(p) for p in optimized}) == len(optimized)
    assert sum(p.numel() for p in optimized) == count


def test_nine_passes_of_six_blocks(tmp_path: Path) -> None:
    model = shared_student(tmp_path, 6)
    calls = [0] * 6
    for place in range(6):
        feed_forward = model.bert.encoder.layer[place].intermediate

        def count(*_: Any, place: int = place) -> None:
            calls[place] += 1

        feed_forward.register_forward_hook(count)
    with torch.inference_mode():
        states = model(**inputs_of(), output_hidden_states=True).hidden_states
    assert calls == [1, 1, 1, 2, 2, 2]
    assert len(states) == 1 + 9


@pytest.mark.parametrize("share", ["sps", "sps1"])
@pytest.mark.parametrize("layers", [1, 3, 6])
def test_the_saved_model_is_plain_and_gives_the_very_same_logits(
    tmp_path: Path, layers: int, share: str
) -> None:
    from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

    model = shared_student(tmp_path, layers, share)
    unshared(model).save_pretrained(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert type(plain) is BertForSequenceClassification
    assert plain.config.num_hidden_layers == len(passes(layers, share))
    assert sum(p.numel() for p in plain.parameters()) == expanded_parameters(model)
    with torch.inference_mode():
        assert torch.equal(plain(**inputs_of()).logits, model(**inputs_of()).logits)
    # the last block again, by name and by hand
    names = {"query": "key", "key": "query"} if share == "sps" else {}
    first, again = plain.bert.encoder.layer[layers - 1], plain.bert.encoder.layer[-1]
    for name, weight in first.state_dict().items():
        part = name.split(".")[2] if name.startswith("attention.self") else ""
        other = name.replace(part, names.get(part, part)) if part else name
        assert torch.equal(again.state_dict()[other], weight), name


def test_a_shared_gradient_is_the_sum_over_the_passes(tmp_path: Path) -> None:
    """Against the plain expanded model, whose copies each have a gradient of their own."""
    model = shared_student(tmp_path, 2)
    plain = unshared(model)
    assert plain is not model
    for each in (model, plain):
        each(**inputs_of(), labels=torch.tensor([0, 1])).loss.backward()
    block = model.bert.encoder.layer[0].attention
    first, second = (plain.bert.encoder.layer[place].attention for place in (0, 2))
    for found, one, other in [
        (block.self.query, first.self.query, second.self.key),
        (block.self.key, first.self.key, second.self.query),
        (block.self.value, first.self.value, second.self.value),
        (block.output.dense, first.output.dense, second.output.dense),
    ]:
        torch.testing.assert_close(found.weight.grad, one.weight.grad + other.weight.grad)


def test_a_model_that_shares_nothing_is_saved_as_it_is(tmp_path: Path) -> None:
    model = shared_student(tmp_path, 2, "none")
    assert unshared(model) is model
    assert model.config.num_hidden_layers == 2


def test_the_student_of_a_run_is_plain_and_knows_what_it_is(world: World, student: Path) -> None:
    from transformers import pipeline

    record = json.loads((student / "run.json").read_text())
    assert (record["share"], record["block_passes"], record["student_layers"]) == ("sps", 4, 2)
    assert record["passes"] == [1, 2, 1, 2]
    assert record["layer_map"] == [[1, 1], [2, 2], [3, 3]]
    plain = load_classifier(str(student))
    assert sum(p.numel() for p in plain.parameters()) == record["parameters_expanded"]
    small = build_classifier(str(world.encoder), RTE, layers=2, seed=0, dropout=None)
    assert sum(p.numel() for p in small.parameters()) == record["parameters"]
    # trained as one: the copies are still equal, and not what they were at the start
    one, two = plain.bert.encoder.layer[0], plain.bert.encoder.layer[2]
    assert torch.equal(one.attention.self.query.weight, two.attention.self.key.weight)
    assert torch.equal(one.output.dense.weight, two.output.dense.weight)
    assert not torch.equal(one.output.dense.weight, small.bert.encoder.layer[0].output.dense.weight)
    cache = TeacherCache.open(world.cache16)
    rows = Rows.from_examples(cache.examples("validation"), cache.manifest.tokenizer["pad_id"])
    assert evaluate(plain, RTE, {"validation": rows}, 128) == record["scores"]
    answer = pipeline("text-classification", model=str(student))("w1 sun w2")
    assert answer[0]["label"] in RTE.label_names


def test_the_card_states_both_sizes_and_the_compute(student: Path) -> None:
    card = " ".join((student / "README.md").read_text().split())
    assert "| block passes | 4 | 4 |" in card
    assert "| parameters in this folder | 0.0 M | |" in card
    assert "an input goes through blocks 1, 2, 1, 2." in card
    assert "are those of 2 blocks, the compute is that of 4;" in card


def test_resume_keeps_the_sharing(world: World, student: Path, tmp_path: Path) -> None:
    def stop(entry: Any) -> None:
        if entry.step > 11:
            raise StoppedError

    params = replace(STUDENT, init=str(world.encoder), share="sps")
    with pytest.raises(StoppedError):
        fit_student(
            cache_path=world.cache16, out=tmp_path / "s", params=params, sources={}, on_step=stop
        )
    assert (tmp_path / ".s.partial" / ".state" / "last" / "progress.json").exists()
    fit(world, tmp_path / "s", resume=True)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (student, tmp_path / "s")]
    assert weights[0] == weights[1]


def test_a_six_layer_student_of_a_run_matches_every_third_pass(
    world: World, tmp_path: Path
) -> None:
    deep = save_encoder(tmp_path / "deep", layers=6)
    record = fit(world, tmp_path / "s", init=str(deep), student_layers=6, epochs=1)
    assert record["layer_map"] == [[3, 1], [6, 3]]
    assert record["teacher_layers_read"] == [1, 3]
    assert record["block_passes"] == 9


@pytest.mark.parametrize("strategy", ["emd", "rail", "alp", "contrastive"])
def test_every_pass_takes_part_in_the_other_strategies(world: World, strategy: str) -> None:
    params = replace(STUDENT, init=str(world.encoder), share="sps", strategy=strategy)
    recipe = settle(TeacherCache.open(world.cache16).manifest, params, "c")
    assert recipe.strategy.shapes.student_layers == 4


@pytest.mark.parametrize("family", ["distilbert", "deberta-v2"])
def test_a_family_that_cannot_share_is_refused(world: World, tmp_path: Path, family: str) -> None:
    encoder = save_encoder(tmp_path / "e", family)
    with pytest.raises(ModelError, match=f"--share needs blocks like BERT's, which `{family}`"):
        fit(world, tmp_path / "s", init=str(encoder))
    assert not (tmp_path / "s").exists()


def test_a_shared_student_has_a_folder_of_its_own() -> None:
    params = StudentParams(share="sps1", pretrain="ptp", seed=2)
    assert default_folder(RTE, params) == Path("data/students/rte-skip-3-sps1-ptp-s2")
