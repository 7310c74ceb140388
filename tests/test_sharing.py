"""pytest tests/test_sharing.py - the commands of docs/sharing.md, on a folder and on S3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
import yaml

from pipeline.store.manifest import read_manifest
from tests.support.pages import console, fenced, printed, shell
from tests.support.repository import copy_repository
from tests.support.s3 import local_s3
from tests.support.tiny import save_encoder, write_rte

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "sharing.md"
OF_THE_TEAM = ("pipeline/", "stages/", "data/", ".dvc", ".gitignore", "dvc.yaml")
ROLES = {"builder", "teammate", "other"}
REMOTES = {"folder", "s3"}


def tiny_params(source: Path, encoder: Path) -> dict[str, object]:
    """The team's own `params.yaml`: the page leaves it to README."""
    return {
        "grid": {
            "bases": [], "tasks": ["rte"], "strategies": ["kd"], "depths": [3], "seeds": [0],
        },
        "tasks": {},
        "data": {"source": str(source), "max_train_samples": 40},
        "base": {},
        "teacher": {"init": str(encoder), "epochs": 1, "max_length": 24},
        "cache": {"dtype": "float16", "allow_weak_teacher": True},
        "student": {"init": str(encoder), "epochs": 1},
        "report": {},
    }  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Commands that one person types, and how lines of their output begin, in this order."""

    role: str
    remote: str | None
    commands: str
    expected: tuple[str, ...]

    @classmethod
    def parse(cls, language: str, info: str, text: str) -> Block:
        role, *remotes = info.split()
        assert role in ROLES, f"who types this?\n{text}"
        assert set(remotes) <= REMOTES, info
        commands, expected = console(text) if language == "console" else (text, ())
        return cls(role, remotes[0] if remotes else None, commands, expected)


def blocks(remote: str) -> list[Block]:
    found = [Block.parse(*block) for block in fenced(PAGE.read_text("utf-8"), "sh", "console")]
    return [block for block in found if block.remote in (None, remote)]


class Walk:
    """The page's people, each in a folder of their own, sharing a git server and a remote."""

    def __init__(self, root: Path, substitutions: dict[str, str]) -> None:
        self.where = {role: root / role for role in ROLES}
        for folder in self.where.values():
            folder.mkdir()
        self.substitutions = substitutions
        self.used: set[str] = set()

    def run(self, block: Block) -> str:
        """Type a block where its person stands; they stay where it leads them."""
        commands = block.commands
        for written, ours in self.substitutions.items():
            if written in commands:
                self.used.add(written)
                commands = commands.replace(written, ours)
        output, self.where[block.role] = shell(commands, self.where[block.role])
        printed(output, block.expected)
        return output

    def manifest(self, role: str) -> bytes:
        return (self.where[role] / "data" / "rte.zarr" / "manifest.json").read_bytes()


def team_repository(root: Path) -> tuple[Path, Path]:
    """A git server's repository: what git holds of ours, with tiny parameters; and the encoder."""
    encoder = save_encoder(root / "encoder")
    seed, bare = root / "seed", root / "students.git"
    copy_repository(seed, OF_THE_TEAM)
    params = tiny_params(write_rte(root / "glue" / "RTE"), encoder)
    (seed / "params.yaml").write_text(yaml.safe_dump(params))
    shell("git init -q -b main; git add -A; git commit -q -m start", seed)
    shell(f"git clone -q --bare seed {bare.name}", root)
    return bare, encoder


@pytest.fixture(params=sorted(REMOTES))
def walk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Walk]]:
    """What differs from the page: addresses, and the encoder's name."""
    bare, encoder = team_repository(tmp_path)
    everywhere = {"git@example.org:team/students.git": str(bare), "bert-base-uncased": str(encoder)}
    if request.param == "folder":
        yield "folder", Walk(tmp_path, everywhere | {"/mnt/team/dvc": str(tmp_path / "store")})
        return
    with local_s3(monkeypatch, bucket="team-bucket") as s3:
        yield "s3", Walk(tmp_path, everywhere | {"https://s3.example.org": s3.endpoint})


@pytest.mark.soak_only
@pytest.mark.timeout(600)
def test_the_page_works_as_it_is_written(walk: tuple[str, Walk]) -> None:
    remote, people = walk
    seen: dict[str, list[str]] = {role: [] for role in ROLES}
    for block in blocks(remote):
        seen[block.role].append(people.run(block))
    assert people.used == set(people.substitutions), "the page no longer says what is replaced"
    assert {role for role in ROLES if seen[role]} == ROLES

    for role in ("teammate", "other"):
        data = people.where[role] / "data"
        assert not (data / "raw").exists(), role
        assert not (data / "teachers").exists(), role
        assert (data / "students" / "rte-skip-3-s0" / "model.safetensors").exists(), role
        assert people.manifest(role) == people.manifest("builder"), role
    assert read_manifest(people.where["other"] / "data" / "rte.zarr").dtype == "float32"

    if remote == "folder":
        a_cache_of_symbolic_links_is_refused(people.where["teammate"])
    teammate = "".join(seen["teammate"])
    assert re.findall(r"Running stage '(.*)'", teammate) == ["student@rte-kd-3-0"]
    digests = [re.findall(r"^content +: (\w+)$", "".join(seen[r]), re.M) for r in ROLES - {"other"}]
    assert digests[0] == digests[1] != []


def a_cache_of_symbolic_links_is_refused(repository: Path) -> None:
    shell("dvc config cache.type symlink; dvc checkout -q --relink data/rte.zarr", repository)
    assert (repository / "data" / "rte.zarr" / "manifest.json").is_symlink()
    shell("if pkd-cache verify data/rte.zarr; then exit 1; fi", repository)


def test_every_block_has_an_owner_and_both_remotes_are_described() -> None:
    for remote in REMOTES:
        assert [block for block in blocks(remote) if block.remote == remote]
        assert {block.role for block in blocks(remote)} == ROLES


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_dvc_push_does_not_fail_and_only_one_check_sees_it(tmp_path: Path) -> None:
    """The page's warning; a DVC in which this fails needs a shorter page."""
    setup = """
        git init -q; dvc init -q; dvc remote add -q -d team ../store
        mkdir -p data/rte.zarr; echo {} > data/rte.zarr/manifest.json; dvc add -q data/rte.zarr
        git add -A; git commit -q -m start; rm -r .dvc/cache
    """
    folder = tmp_path / "repository"
    folder.mkdir()
    shell(setup, folder)
    assert "Everything is up to date." in shell("dvc push data/rte.zarr", folder)[0]
    assert "are in sync" in shell("dvc status -c data/rte.zarr", folder)[0]
    check = "dvc data status --not-in-remote --granular data/rte.zarr"
    assert "Not in remote:" in shell(check, folder)[0]
    shell("dvc commit -q data/rte.zarr; dvc push -q data/rte.zarr", folder)
    assert "No changes." in shell(check, folder)[0]


def test_a_plain_s3_address_reaches_the_server_of_this_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for content in (b"first", b"second"):  # a second server must not be the first one's
        with local_s3(monkeypatch) as s3:
            assert not fsspec.url_to_fs(s3.url("x"))[0].exists(s3.url("x"))
            with fsspec.open(s3.url("x"), "wb") as file:
                file.write(content)
            with fsspec.open(s3.url("x"), "rb", **s3.storage_options) as file:
                assert file.read() == content
