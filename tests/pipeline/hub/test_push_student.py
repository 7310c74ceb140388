"""pytest tests/pipeline/hub/test_push_student.py - students to the Hub."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import HubError, ModelError
from pipeline.hub.student import hub_card, push_student
from pipeline.student.fit import fit_student
from tests.support.hub import LocalHub
from tests.support.tiny import STUDENT, World

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ada/rte-2-layers"
KEY = f"models/{REPO}"


@pytest.fixture(scope="module")
def student(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = replace(STUDENT, init=str(world.encoder), device="cpu", epochs=1)
    out = tmp_path_factory.mktemp("students") / "rte-skip-2-s0"
    return fit_student(cache_path=world.cache16, out=out, params=params, sources={})[0]


def head_of(card: bytes | str) -> dict[str, Any]:
    text = card.decode() if isinstance(card, bytes) else card
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_repository_holds_the_students_files(student: Path, hub: LocalHub) -> None:
    done = push_student(student, REPO, private=True, license_name="apache-2.0")
    assert done.commits == 1
    found = hub.tree(KEY)
    ours = {p.relative_to(student).as_posix(): p for p in student.rglob("*") if p.is_file()}
    del ours["validation-logits.parquet"]  # data, which belongs in no model repository
    assert set(found) == {*ours, ".gitattributes"}
    for name, path in ours.items():
        if name != "README.md":
            assert found[name] == path.read_bytes(), name
    assert hub.repos[KEY].private
    assert push_student(student, REPO, license_name="apache-2.0").commits == 0


def test_the_card_says_what_the_hub_asks_for(student: Path, hub: LocalHub) -> None:
    push_student(student, REPO, license_name="apache-2.0")
    card = hub.tree(KEY)["README.md"].decode()
    record = json.loads((student / "run.json").read_text())
    head = head_of(card)
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "text-classification"
    assert head["datasets"] == ["nyu-mll/glue"]
    assert head["metrics"] == ["accuracy"]
    assert head["tags"] == ["pkd", "knowledge-distillation", "rte"]
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {
        "type": "nyu-mll/glue", "name": "GLUE rte", "config": "rte", "split": "validation",
    }  # fmt: skip
    assert result["metrics"][0]["value"] == record["scores"]["validation"]["accuracy"]
    body = (student / "README.md").read_text().split("---\n", 2)[2]
    name = f'model="{record["name"]}"'
    assert name in body
    assert card.split("---\n", 2)[2] == body.replace(name, f'model="{REPO}"')


def test_what_a_person_wrote_into_the_card_stays(student: Path) -> None:
    record = json.loads((student / "run.json").read_text())
    text = "---\ntags: [mine]\nlicense: mit\nbase_model: ours/encoder\n---\n\nMy words.\n"
    card = hub_card(text, record, REPO, None)
    head = head_of(card)
    assert card.endswith("---\n\nMy words.\n")
    assert head["license"] == "mit"
    assert head["base_model"] == "ours/encoder"
    assert head["tags"] == ["mine", "pkd", "knowledge-distillation", "rte"]
    assert head["pipeline_tag"] == "text-classification"
    with pytest.raises(ModelError, match="no YAML"):
        hub_card("---\na: [\n---\n", record, REPO, None)


def test_the_base_model_and_metrics_go_by_the_names_of_the_hub(student: Path) -> None:
    from pipeline.student.card import student_card

    record = json.loads((student / "run.json").read_text())
    record["init"] |= {"hub_id": "google-bert/bert-base-uncased"}
    record |= {"task": "cola", "scores": {"validation": {"matthews": 0.25}}}
    head = head_of(student_card(record))
    assert head["base_model"] == "google-bert/bert-base-uncased"
    assert head["metrics"] == ["matthews_correlation"]
    own = head_of(student_card(record | {"task": "tickets"}))
    assert "datasets" not in own
    (model,) = own["model-index"]
    assert model["results"][0]["dataset"] == {
        "type": "tickets", "name": "tickets", "split": "validation",
    }  # fmt: skip


def test_a_changed_student_sends_what_changed(student: Path, hub: LocalHub, tmp_path: Path) -> None:
    push_student(student, REPO)
    changed = tmp_path / "changed"
    shutil.copytree(student, changed)
    (changed / "notes.md").write_text("More.")
    (changed / ".hidden").write_text("Not this.")
    hub.log.clear()
    done = push_student(changed, REPO, revision="v2", message="Notes")
    assert (done.pushed_files, done.commits) == (1, 1)
    assert not [line for line in hub.log if line.startswith("PUT")]
    assert "notes.md" not in hub.tree(KEY)
    assert hub.tree(KEY, "v2")["notes.md"] == b"More."
    assert ".hidden" not in hub.tree(KEY, "v2")


def test_a_commit_of_someone_else_meanwhile_is_an_error(
    student: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.hub import File

    push_student(student, REPO, revision="other")

    def meddle(method: str, path: str) -> int | None:
        if "/preupload/" in path:
            hub.repos[KEY].add("main", {"theirs": File(b"x", False)})
        return None

    hub.refuse = meddle
    with pytest.raises(HubError, match="A commit has happened since|412"):
        push_student(student, REPO)
    assert set(hub.tree(KEY)) == {"theirs"}


def test_what_is_no_student_is_refused_before_the_hub_is_asked(
    world: World, tmp_path: Path, hub: LocalHub
) -> None:
    with pytest.raises(ModelError, match="no such student"):
        push_student(tmp_path / "none", REPO)
    with pytest.raises(ModelError, match=r"no finished student \(expected run\.json"):
        push_student(world.encoder, REPO)
    assert not hub.log
