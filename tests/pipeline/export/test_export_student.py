"""pytest tests/pipeline/export/test_export_student.py

Shapes: N rows, K outputs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from pipeline.errors import (
    CacheMismatchError,
    ExportError,
    ModelError,
    OutputExistsError,
)
from pipeline.export import libraries
from pipeline.export.compare import agreement, require_equal, tolerance_for
from pipeline.export.convert import to_onnx
from pipeline.export.record import read_export
from pipeline.export.runtime import OnnxClassifier
from pipeline.export.student import export_student
from pipeline.models.load import load_classifier
from pipeline.store.reader import TeacherCache
from tests.support.exports import Exported, export, save_student
from tests.support.pages import fenced
from tests.support.tiny import World

SNIPPET = Path(__file__).parents[3] / "docs" / "export.md"
TEXTS = [("w1 sun w2 w3", "w5 w6"), ("w4", "rain w7 w8 w9 " * 9)]


def run_the_snippet(folder: Path) -> np.ndarray[Any, Any]:
    """The Python of docs/export.md, on other texts; without torch or transformers."""
    code = fenced(SNIPPET.read_text("utf-8"), "python")[0].text
    code = code.replace("data/exports/rte-skip-3-s0", str(folder))
    code = code.replace('[("A man sleeps.", "Somebody sleeps.")]', repr(TEXTS))
    assert repr(TEXTS) in code
    assert str(folder) in code
    names: dict[str, Any] = {}
    exec(code, names)
    return np.asarray(names["logits"])


def plain_logits(student: Path) -> np.ndarray[Any, Any]:
    """The same by transformers."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(student).eval()
    tokenizer = AutoTokenizer.from_pretrained(student)
    inputs = tokenizer(
        *map(list, zip(*TEXTS, strict=True)), return_tensors="pt", padding=True,
        truncation=True, max_length=24,
    )  # fmt: skip
    with torch.inference_mode():
        return np.asarray(model(**inputs).logits.numpy())


def test_the_folder_alone_gives_the_students_logits(exported: Exported) -> None:
    expected = plain_logits(exported.student)
    np.testing.assert_allclose(run_the_snippet(exported.folder), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.05


def test_the_readme_of_a_folder_shows_the_snippet_of_the_docs(exported: Exported) -> None:
    shown = fenced((exported.folder / "README.md").read_text(), "python")[0].text
    documented = fenced(SNIPPET.read_text("utf-8"), "python")[0].text
    assert shown == documented.replace("data/exports/rte-skip-3-s0", ".")


@pytest.mark.slow
@pytest.mark.parametrize(("family", "share"), [("roberta", "none"), ("bert", "sps")])
def test_other_families_and_shared_layers(tmp_path: Path, family: str, share: str) -> None:
    found = export(save_student(tmp_path / "student", family, share=share))
    np.testing.assert_allclose(
        run_the_snippet(found.folder), plain_logits(found.student), atol=1e-5
    )
    assert ("token_type_ids" in found.record["inputs"]) is (family == "bert")
    assert found.record["check"]["rows"] == {"made-up": 64}
    assert found.record["scores"] == {"pytorch": {}}
    assert not (found.folder / "model_int8.onnx").exists()
    if share == "sps":
        sizes = found.record["student"]["sizes"]
        assert (sizes["layers"], sizes["passes"]) == (1, 2)
        stored = onnx.load(found.folder / "model.onnx").graph.initializer
        floats = sum(np.prod(w.dims) for w in stored if w.data_type == onnx.TensorProto.FLOAT)
        own = sizes["embeddings"] + sizes["blocks"] + sizes["head"]
        assert own - 64 <= floats <= own + 64  # its second pass stores no weights again


def test_scores_and_agreement_are_those_of_the_files(world: World, exported: Exported) -> None:
    """By onnxruntime itself, row by row, and by hand."""
    import onnxruntime

    table = TeacherCache.open(world.cache16).examples("validation")
    labels = np.array(table["label"].to_pylist())
    session = onnxruntime.InferenceSession(exported.folder / "model.onnx")
    guesses = []
    for ids, types in zip(
        table["input_ids"].to_pylist(), table["token_type_ids"].to_pylist(), strict=True
    ):
        feed = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "token_type_ids": [types]}
        arrays = {name: np.array(value, np.int64) for name, value in feed.items()}
        guesses.append(session.run(None, arrays)[0].argmax())
    accuracy = float((np.array(guesses) == labels).mean())
    record = exported.record
    assert record["scores"]["pytorch"]["validation"]["accuracy"] == accuracy
    assert record["files"]["float32"]["scores"]["validation"]["accuracy"] == accuracy
    assert record["files"]["float32"]["same_label"] == {"validation": 1.0}
    same = record["files"]["int8"]["same_label"]["validation"]
    score = record["files"]["int8"]["scores"]["validation"]["accuracy"]
    assert 0.5 < same <= 1.0
    assert abs(score - accuracy) <= 1 - same + 1e-9
    assert record["files"]["int8"]["largest_error"]["validation"] > 1e-4


def test_the_int8_file_holds_8_bit_weights_and_computes_nearly_the_same(
    exported: Exported,
) -> None:
    graph = onnx.load(exported.folder / "model_int8.onnx").graph
    eight_bits = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    stored = sum(np.prod(w.dims) for w in graph.initializer if w.data_type in eight_bits)
    assert stored > 0.9 * exported.record["student"]["sizes"]["blocks"]
    assert "MatMulInteger" in {node.op_type for node in graph.node}
    inputs = {
        "input_ids": torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "token_type_ids": torch.zeros(2, 4, dtype=torch.long),
    }
    both = [OnnxClassifier(exported.folder / n) for n in ("model.onnx", "model_int8.onnx")]
    one, other = (each.run(each.feed(inputs)) for each in both)
    np.testing.assert_allclose(one, other, atol=0.1 * max(1.0, float(np.abs(one).max())))


def test_what_the_record_says(world: World, exported: Exported) -> None:
    record = json.loads((exported.folder / "export.json").read_text())
    assert record == exported.record
    assert record["check"]["largest_error"] <= record["check"]["tolerance"]
    assert record["check"]["rows"] == {"validation": 37}
    assert record["identity"]["cache"] == TeacherCache.open(world.cache16).manifest.content_digest
    assert record["student"]["labels"] == ["entailment", "not_entailment"]
    assert record["max_length"] == 24
    for each in record["files"].values():
        content = (exported.folder / each["file"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
        assert each["size_bytes"] == len(content)
    opsets = onnx.load(exported.folder / "model.onnx").opset_import
    assert [each.version for each in opsets if each.domain == ""] == [record["opset"]]
    found = read_export(exported.folder)
    assert (found.digest, found.sizes.passes) == (record["student"]["digest"], 1)


def test_no_file_of_an_export_names_this_machine(exported: Exported) -> None:
    import transformers

    places = [str(exported.student.parent), str(Path(transformers.__file__).parents[1])]
    for path in exported.folder.iterdir():
        content = path.read_bytes()
        assert not [place for place in places if place.encode() in content], path


def test_a_model_that_computes_something_else_is_not_published(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save_student(tmp_path / "other", seed=1)

    def wrong(_: Any, __: Any, path: Path) -> None:
        shutil.copy(exported.folder / "model.onnx", path)

    monkeypatch.setattr("pipeline.export.student.to_onnx", wrong)
    with pytest.raises(ExportError, match=r"other: the exported model's logits differ .* up to"):
        export_student(other, tmp_path / "out", int8=False, cache=None, overwrite=False)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_an_export_that_is_there(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(_: Any, __: Any, path: Path) -> None:
        shutil.copy(exported.folder / "model.onnx", path)

    monkeypatch.setattr("pipeline.export.student.to_onnx", copied)
    out = tmp_path / "out"

    def again(**more: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"int8": False, "cache": None, "overwrite": False}
        return export_student(exported.student, out, **(given | more))

    first = again()
    assert again() == first | {"existed": True}
    (out / "export.json").write_text(json.dumps(first | {"identity": {"student_digest": "x"}}))
    with pytest.raises(OutputExistsError, match="Add --overwrite"):
        again()
    assert again(overwrite=True) == first
    assert json.loads((out / "export.json").read_text()) == first
    model = (out / "model.onnx").read_bytes()
    (out / "model.onnx").unlink()
    assert again() == first  # not `existed`
    (out / "model.onnx").write_bytes(model[:-1])
    assert again() == first
    (out / "model.onnx").write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
    assert again() == first | {"existed": True}  # sizes alone are compared
    assert again(overwrite=True) == first
    assert (out / "model.onnx").read_bytes() == model


def test_differences_that_are_refused() -> None:
    small = np.array([[0.5, -0.25]], np.float32)
    large = np.array([[20.0, -3.0]], np.float32)
    assert tolerance_for(small) == pytest.approx(1e-4)
    assert tolerance_for(large) == pytest.approx(2e-3)
    error, allowed = require_equal([(small, small + 5e-5)], "s")
    assert error == pytest.approx(5e-5, rel=1e-2)
    assert allowed == pytest.approx(1e-4)
    for wrong in (small + 2e-4, small * np.nan):
        for pairs in ([(small, wrong), (small, small)], [(small, small), (small, wrong)]):
            with pytest.raises(ExportError, match="Nothing was published"):
                require_equal(pairs, "s")
    one, other = np.array([[1, 0], [0, 1], [2, 1]]), np.array([[3, 0], [1, 0], [2, 1]])
    assert agreement(one, other) == pytest.approx(2 / 3)
    assert agreement(one[:, :1], other[:, :1]) is None


def test_predict_keeps_the_order_of_the_rows(world: World, exported: Exported) -> None:
    from pipeline.batches import Rows
    from pipeline.training.evaluate import predict

    rows = Rows.from_examples(TeacherCache.open(world.cache16).examples("train"), 0)
    model = load_classifier(str(exported.student))
    found = OnnxClassifier(exported.folder / "model.onnx").predict(rows, 7)
    np.testing.assert_allclose(found, predict(model, rows, 16), atol=1e-5)


def test_missing_libraries_are_named_with_the_extra(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == "onnx" else 1)
    with pytest.raises(ExportError, match=r"ONNX needs onnx, .*'pkd\[onnx\]'"):
        export_student(exported.student, tmp_path / "o", int8=False, cache=None, overwrite=False)
    OnnxClassifier(exported.folder / "model.onnx")  # onnxruntime is enough to run one


def test_what_cannot_be_exported(
    world: World, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"int8": False, "overwrite": False}
    other = shutil.copytree(exported.student, tmp_path / "retokenized")
    text = (other / "tokenizer.json").read_text().replace('"w1"', '"W1"')
    (other / "tokenizer.json").write_text(text)
    with pytest.raises(CacheMismatchError, match="tokenizer"):
        export_student(other, tmp_path / "out", cache=world.cache16, **given)
    with pytest.raises(ModelError, match="not a fine-tuned classifier"):
        export_student(world.encoder, tmp_path / "out", cache=None, **given)
    monkeypatch.setattr("pipeline.export.convert.LARGEST_BYTES", 1000)
    with pytest.raises(ExportError, match="one ONNX file holds"):
        export_student(exported.student, tmp_path / "out", cache=None, **given)
    monkeypatch.undo()
    model = load_classifier(str(exported.student))
    with pytest.raises(ExportError, match=r"cannot export a model of type `bert`"):
        to_onnx(model.double().half(), ("input_ids", "positions"), tmp_path / "x.onnx")
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_exports(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not an export"):
        read_export(exported.student)
    broken = tmp_path / "broken"
    broken.mkdir()
    contents: list[Any] = [{}, [], {"kind": "export", "format": 2}, {"kind": "export", "format": 1}]
    for content in contents:
        (broken / "export.json").write_text(json.dumps(content))
        with pytest.raises(ModelError, match=r"export\.json .*STUDENT --onnx"):
            read_export(broken)
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot read it"):
        OnnxClassifier(broken / "model.onnx")
    with pytest.raises(ModelError, match="no such file"):
        OnnxClassifier(broken / "none.onnx")
