"""Publishing a student as a model repository of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.existing import has_weights
from pipeline.files import read_json
from pipeline.hub.repository import LocalFile, Pushed, local_file, open_repository, push_files
from pipeline.progress import Tick, silent
from pipeline.student.card import card_data, student_card
from pipeline.student.fit import RUN_RECORD

CARD = "README.md"


def push_student(
    student: Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    license_name: str | None = None,
    tick: Tick = silent,
) -> Pushed:
    """Put a student's folder into a model repository, its card as README.md.

    The card is the folder's own, whose text is left as it is; its head gets what a record can say
    and it does not. Files of the repository that the student does not have stay.

    Args:
        student: a folder that `pkd-student fit` made.
        repo: user/name; made when it is not there.
        private: of a new repository.
        revision: a branch, made when it is not there; None = main.
        message: of the commit.
        license_name: for the card, such as apache-2.0.
        tick: told of bytes.

    Raises:
        HubError: no token, no network, not allowed; says what to do.
        ModelError: no finished student.
    """
    record = _record(student)
    card = hub_card(_own_card(student, record), record, repo, license_name)
    files = _files(student) | {CARD: local_file(card.encode())}
    repository = open_repository(repo, "model", private=private, branch=revision)
    message = message or f"Student {record['name']}"
    return push_files(repository, files, message=message, tick=tick)


def hub_card(text: str, record: dict[str, Any], repo: str, license_name: str | None) -> str:
    """A card for a repository: its text as it is, but for the name in the lines on its use.

    What stands in its head stays too, but for a license that is given.
    """
    import yaml
    from huggingface_hub import CardData, RepoCard

    try:
        card = RepoCard(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ModelError(f"{CARD}: its head is no YAML of keys and values ({error}).") from None
    made, own = card_data(record).to_dict(), card.data.to_dict()
    tags = list(dict.fromkeys([*(own.get("tags") or []), *made["tags"]]))
    head = made | own | {"tags": tags} | ({"license": license_name} if license_name else {})
    card.data = CardData(**head)
    card.text = card.text.replace(f'model="{record["name"]}"', f'model="{repo}"')
    return str(card)


def _record(student: Path) -> dict[str, Any]:
    if not student.is_dir():
        raise ModelError(f"{student}: no such student; train one with `pkd-student fit`.")
    if not (student / RUN_RECORD).is_file() or not has_weights(student):
        raise ModelError(
            f"{student}: no finished student (expected {RUN_RECORD} and weights); train one with "
            "`pkd-student fit`."
        )
    return dict(read_json(student / RUN_RECORD))


def _own_card(student: Path, record: dict[str, Any]) -> str:
    path = student / CARD
    return path.read_text("utf-8") if path.is_file() else student_card(record)


def _files(student: Path) -> dict[str, LocalFile]:
    """Everything in the folder that is not hidden; no data, which is for the report here."""
    found = {}
    for path in sorted(student.rglob("*")):
        name = path.relative_to(student)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and path.suffix != ".parquet":
            found[name.as_posix()] = local_file(path)
    return found
