"""pytest tests/test_examples.py - the example and every block of docs/using-a-cache.md are run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipeline import TeacherCache
from tests.support.pages import fenced
from tests.support.tiny import World

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "patient_trainer.py"
PAGE = ROOT / "docs" / "using-a-cache.md"


def substitutions(world: World) -> dict[str, str]:
    """The page speaks of the demo; here are its tiny counterparts."""
    return {
        "--task demo": "--task rte",
        "data/demo-int8": "data/rte-int8",
        "data/demo.zarr": "data/rte.zarr",
        "data/raw/demo": "data/raw/rte",
        "data/base/demo": str(world.encoder),
        # 5 steps an epoch instead of 125
        "--learning-rate 5e-4": "--learning-rate 5e-3 --epochs 20",
    }


def script_of(page: str, world: World) -> str:
    """The blocks of a page as one Python program, commands and all, in their order."""
    lines = ["import subprocess"]
    for language, _, text in fenced(page):
        for ours, theirs in substitutions(world).items():
            text = text.replace(ours, theirs)
        if language == "sh":
            lines.append(f"subprocess.run(['bash', '-euc', {text!r}], check=True)")
        elif language == "python":
            lines.append(text)
    return "\n".join(lines)


@pytest.mark.soak_only
def test_every_block_of_the_page_runs(world: World, tmp_path: Path) -> None:
    """Among them the example, as a script; its student learns what the teacher answers."""
    shutil.copytree(world.root / "data", tmp_path / "data")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "page.py").write_text(script_of(PAGE.read_text("utf-8"), world))
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "hf"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-u", "page.py"]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    said = found.stdout
    answer = re.search(r"validation: accuracy ([\d.]+), .* same answer ([\d.]+)", said)
    assert answer, said
    assert float(answer[1]) > 0.7
    assert float(answer[2]) > 0.7
    for line in (
        "('test', 'train', 'validation') 198 150",
        "torch.Size([150, 2]) torch.Size([150, 2, 16]) torch.float32",
        "150 of 150 rows are not in train (rows 0, 1, 2, ...). 150 of them are padded",
        "demo.parquet: train 150, validation 37, test 11 rows; layers 2, 4;",
        "(37, 16) [2, 4]",
        "cache         : data/rte.zarr",
    ):
        assert line in said, line
    assert re.search("stored type +float32 +int8", said)
    assert (tmp_path / "data" / "students" / "trainer" / "model.safetensors").is_file()


def class_in(text: str) -> str:
    """The class of the example, without what only a type checker reads."""
    found = re.search(
        r"^class PatientTrainer.*?(?=\n\n\n|\n```|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found
    return found[0].replace("  # type: ignore[misc]", "")


def test_the_page_shows_the_class_of_the_example() -> None:
    assert class_in(PAGE.read_text("utf-8")) == class_in(EXAMPLE.read_text("utf-8"))


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("patient_trainer", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def test_the_loss_of_the_example_is_the_formula(world: World) -> None:
    """Against numpy, with the outputs of the live teacher instead of the cache's."""
    train = TeacherCache.open(world.cache)["train"]
    table, rows = train.examples, [140, 3, 77]
    tokenizer = AutoTokenizer.from_pretrained(world.teacher)
    tokens = [
        {name: table[name][row].as_py() for name in ("input_ids", "token_type_ids")} for row in rows
    ]
    inputs = dict(tokenizer.pad(tokens, return_tensors="pt"))
    labels = [table["label"][row].as_py() for row in rows]
    torch.manual_seed(1)
    student = AutoModelForSequenceClassification.from_pretrained(
        world.encoder, num_hidden_layers=3, num_labels=2
    ).eval()
    teacher = AutoModelForSequenceClassification.from_pretrained(world.teacher).eval()
    with torch.inference_mode():
        ours, theirs = (m(**inputs, output_hidden_states=True) for m in (student, teacher))
        batch = inputs | {"labels": torch.tensor(labels), "teacher_row": torch.tensor(rows)}
        trainer = SimpleNamespace(teacher=train.tensors([1, 3]))
        loss = load_example().PatientTrainer.compute_loss(trainer, student, batch)

    def cls(output: Any, layers: tuple[int, ...]) -> np.ndarray:
        states = [output.hidden_states[layer][:, 0].double().numpy() for layer in layers]
        found = np.stack(states, axis=1)
        return np.asarray(found / np.linalg.norm(found, axis=-1, keepdims=True))

    s, t = ours.logits.double().numpy(), theirs.logits.double().numpy()
    ce = -np.log(softmax(s)[range(3), labels]).mean()
    soft = softmax(t / 10)
    kd = 100 * (soft * np.log(soft / softmax(s / 10))).sum() / 6
    pt = ((cls(ours, (1, 2)) - cls(theirs, (1, 3))) ** 2).mean()
    assert loss.item() == pytest.approx(0.5 * ce + 0.5 * kd + 100 * pt, rel=1e-5)
    assert min(0.5 * ce, 0.5 * kd, 100 * pt) > 1e-3, "every term must count"
