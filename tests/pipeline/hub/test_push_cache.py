"""pytest tests/pipeline/hub/test_push_cache.py - caches to the Hub, and back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.errors import (
    CacheCorruptError,
    CacheError,
    HubError,
    OutputExistsError,
    ParamsError,
    PipelineError,
)
from pipeline.hub import repository
from pipeline.hub.cache import push_cache
from pipeline.store.check import check_cache
from pipeline.store.copy import copy_cache
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import TeacherCache
from pipeline.store.remote import RemotePlace
from tests.support.hub import TOKEN, LocalHub
from tests.support.tiny import World

# huggingface_hub sends large files as `data=`, which its HTTP library would have as `content=`
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ada/rte-cache"
KEY = f"datasets/{REPO}"
URL = f"hf://{KEY}/rte16.zarr"


def files_of(folder: Path) -> dict[str, bytes]:
    """The cache as the Hub must have it: name below the repository's root -> bytes."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {f"{folder.name}/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in paths}


def cache_files(hub: LocalHub, revision: str = "main") -> dict[str, bytes]:
    return {name: each for name, each in hub.tree(KEY, revision).items() if "/" in name}


def test_the_repository_holds_the_cache_byte_for_byte(world: World, hub: LocalHub) -> None:
    done = push_cache(world.cache16, REPO, private=True)
    assert done.address == URL
    assert done.pushed.commits == 1  # all at once: there is no commit with a part of it
    assert cache_files(hub) == files_of(world.cache16)
    assert hub.repos[KEY].private
    again = push_cache(world.cache16, REPO)
    assert (again.pushed.commits, again.pushed.pushed_files) == (0, 0)


def test_it_opens_where_a_cache_is_named(world: World, hub: LocalHub, tmp_path: Path) -> None:
    push_cache(world.cache16, REPO)
    assert read_manifest(URL) == read_manifest(world.cache16)
    assert not check_cache(URL)
    copied = copy_cache(URL, tmp_path / "back.zarr")
    assert copied.copied_files == len(copied.manifest.files)
    back = {name.replace("back.zarr", "rte16.zarr"): each
            for name, each in files_of(tmp_path / "back.zarr").items()}  # fmt: skip
    assert back == files_of(world.cache16)
    one = TeacherCache.open(URL)["train"].tensors(layers=[2, 4])
    other = TeacherCache.open(world.cache16)["train"].tensors(layers=[2, 4])
    assert torch.equal(one.cls, other.cls)


def test_only_the_layers_asked_for_are_fetched(world: World, hub: LocalHub) -> None:
    """Counted at the server: bytes of the shards, and requests."""
    push_cache(world.cache16, REPO)
    stored = read_manifest(world.cache16).arrays["train/cls"]["layer_bytes"]
    received = {}
    for layers in ((1,), (1, 3)):
        opened = TeacherCache.open(URL)
        assert isinstance(opened.place, RemotePlace)
        hub.log.clear()
        before = opened.place.received_bytes
        opened.stored("train", layers)
        received[layers] = opened.place.received_bytes - before
        ranges = [line for line in hub.log if "resolve" in line and "train/cls/c/" in line]
        assert len(ranges) == 4 * (1 + len(layers))  # four shards: an index, and each layer
        assert all("bytes=" in line for line in ranges)
    assert received[1, 3] - received[(1,)] == stored[2]


def test_a_revision_is_a_branch_of_its_own(world: World, hub: LocalHub) -> None:
    push_cache(world.cache16, REPO)
    done = push_cache(world.cache16, REPO, revision="float16/a")
    assert done.address == f"hf://{KEY}@float16%2Fa/rte16.zarr"
    assert read_manifest(done.address) == read_manifest(URL)
    other = world.cache.parent / "rte.zarr"
    push_cache(other, REPO, revision="float32")
    assert set(cache_files(hub)) == set(files_of(world.cache16))
    assert read_manifest(f"hf://{KEY}@float32/rte.zarr").dtype == "float32"
    commit = hub.repos[KEY].branches["float32"][-1]
    assert read_manifest(f"hf://{KEY}@{commit}/rte.zarr").dtype == "float32"


def test_the_card_says_what_the_caches_are(world: World, hub: LocalHub) -> None:
    push_cache(world.cache16, REPO, license_name="cc-by-4.0")
    push_cache(world.cache, REPO)
    card = hub.tree(KEY)["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc-by-4.0"  # kept by the second push
    assert head["size_categories"] == ["n<1K"]
    assert head["viewer"] is False
    assert {"rte", "pkd"} <= set(head["tags"])
    for cache in (world.cache16, world.cache):
        manifest = json.loads((cache / "manifest.json").read_text())
        assert f"## {cache.name}" in card
        assert f"`hf://{KEY}/{cache.name}`" in card
        assert manifest["cache_id"] in card
        assert manifest["teacher"]["digest"] in card
        worst = max(
            each["relative_l2_max"] for each in manifest["measured_error"]["layers"].values()
        )
        assert f"at most {worst:.2g} of its length" in card
        rows = manifest["splits"]["train"]
        assert f"| train | {rows['rows']:,} | {rows['labelled_rows']:,} |" in card


def test_a_card_that_someone_wrote_is_left_alone(world: World, hub: LocalHub) -> None:
    push_cache(world.cache16, REPO)
    from huggingface_hub import HfApi

    HfApi().upload_file(
        path_or_fileobj=b"---\nlicense: mit\n---\nOurs.\n", path_in_repo="README.md",
        repo_id=REPO, repo_type="dataset",
    )  # fmt: skip
    assert push_cache(world.cache, REPO).card_kept
    assert hub.tree(KEY)["README.md"].endswith(b"Ours.\n")


def test_a_push_that_stops_never_looks_whole_and_goes_on(
    world: World, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits of ten files, one of which is let through at each of the first two pushes."""
    monkeypatch.setattr(repository, "MOST_FILES", 10)
    for stop in (1, 2):
        commits: list[str] = []

        def refuse(method: str, path: str, seen: list[str] = commits) -> int | None:
            if "/commit/" in path:
                seen.append(path)
            return 500 if "/commit/" in path and len(seen) > 1 else None

        hub.refuse = refuse
        with pytest.raises(HubError, match="Run the same command again"):
            push_cache(world.cache16, REPO)
        with pytest.raises(CacheError, match=r"not a finished cache|no such cache"):
            TeacherCache.open(URL)
        assert 10 * stop - 1 <= len(cache_files(hub)) <= 10 * stop  # a card is not of the cache
    hub.refuse = lambda method, path: None
    hub.log.clear()
    done = push_cache(world.cache16, REPO)
    assert done.pushed.kept_files == 20
    assert cache_files(hub) == files_of(world.cache16)
    puts = [line for line in hub.log if line.startswith("PUT")]
    sent = [line.split("/")[-1] for line in puts]
    assert len(set(sent)) == len(sent)
    for tree in hub.repos[KEY].commits.values():
        names = {name for name in tree if "/" in name}
        assert "rte16.zarr/manifest.json" not in names or names == set(files_of(world.cache16))


def test_uploads_of_a_commit_that_failed_are_not_sent_again(world: World, hub: LocalHub) -> None:
    hub.refuse = lambda method, path: 500 if "/commit/" in path else None
    with pytest.raises(HubError):
        push_cache(world.cache16, REPO)
    first = [line for line in hub.log if line.startswith("PUT")]
    assert first
    hub.refuse = lambda method, path: None
    hub.log.clear()
    push_cache(world.cache16, REPO)
    assert not [line for line in hub.log if line.startswith("PUT")]


def test_another_cache_is_replaced_only_when_told_so(
    world: World, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several commits: at none of them is there a manifest with other files."""
    push_cache(world.cache16, REPO)
    other = tmp_path / "rte16.zarr"
    shutil.copytree(world.cache, other)
    with pytest.raises(OutputExistsError, match="dtype float16 there, float32 now.*--overwrite"):
        push_cache(other, REPO)
    assert cache_files(hub) == files_of(world.cache16)
    monkeypatch.setattr(repository, "MOST_FILES", 10)
    before = set(hub.repos[KEY].commits)
    assert push_cache(other, REPO, overwrite=True).pushed.commits > 1
    assert cache_files(hub) == files_of(other)
    for name in set(hub.repos[KEY].commits) - before:
        tree = {path: f.content for path, f in hub.repos[KEY].commits[name].items() if "/" in path}
        assert "rte16.zarr/manifest.json" not in tree or tree == files_of(other)


def test_what_is_no_cache_is_never_replaced(world: World, hub: LocalHub) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(REPO, repo_type="dataset")
    for name in ("rte16.zarr/notes.txt", "data.csv"):
        api.upload_file(
            path_or_fileobj=b"mine", path_in_repo=name, repo_id=REPO, repo_type="dataset"
        )
    with pytest.raises(OutputExistsError, match=r"notes\.txt"):
        push_cache(world.cache16, REPO, overwrite=True)
    api.delete_file("rte16.zarr/notes.txt", REPO, repo_type="dataset")
    push_cache(world.cache16, REPO)
    assert hub.tree(KEY)["data.csv"] == b"mine"


def test_a_damaged_cache_is_not_pushed(world: World, hub: LocalHub, tmp_path: Path) -> None:
    damaged = tmp_path / "rte16.zarr"
    shutil.copytree(world.cache16, damaged)
    shard = damaged / "train/cls/c/1/0/0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CacheCorruptError, match=r"train/cls/c/1/0/0: .* nothing was pushed"):
        push_cache(damaged, REPO)
    assert not hub.repos


def test_a_hub_that_stores_other_bytes_is_found_out(
    world: World, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.hub import Repo

    honest = Repo.add

    def damaging(self: Repo, branch: str, tree: dict[str, object]) -> str:
        name = "rte16.zarr/train/zarr.json"
        if name in tree:
            tree = tree | {name: type(tree[name])(b"{}", False)}  # type: ignore[call-arg]
        return honest(self, branch, tree)  # type: ignore[arg-type]

    monkeypatch.setattr(Repo, "add", damaging)
    with pytest.raises(HubError, match=r"train/zarr\.json is not there with the bytes"):
        push_cache(world.cache16, REPO)


@pytest.mark.parametrize(
    ("repo", "token", "offline", "text"),
    [
        (REPO, None, False, "there is no token. Log in with `hf auth login`, or set HF_TOKEN"),
        (REPO, "hf_wrong", False, "does not accept your token"),
        ("team/x", TOKEN, False, "your token may not do that"),
        ("x", TOKEN, False, "expected user/name, such as ada/x"),
        ("ada/../x", TOKEN, False, "expected user/name"),
        ("ada/a b", TOKEN, False, "not an address of the Hub"),
        (REPO, TOKEN, True, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_cannot_be_is_one_message(
    world: World, hub: LocalHub, monkeypatch: pytest.MonkeyPatch,
    repo: str, token: str | None, offline: bool, text: str,
) -> None:  # fmt: skip
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(HubError) as found:
        push_cache(world.cache16, repo)
    assert text in str(found.value)
    assert "\n" not in str(found.value)
    assert not hub.repos


def test_no_network_is_one_message(
    world: World, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    nobody = "http://127.0.0.1:9"  # the discard port
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    text = rf"no answer from {nobody} .*Check the network \(and HF_ENDPOINT\)"
    with pytest.raises(HubError, match=text):
        push_cache(world.cache16, REPO)
    with pytest.raises(CacheError, match=text):
        TeacherCache.open(URL)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("hf://datasets/ada/none/rte.zarr", "no such repository, or it is private"),
        (f"hf://{KEY}@none/rte16.zarr", "there is no such revision"),
        (f"hf://{KEY}/none.zarr", "no such cache"),
        (f"hf://{KEY}", "not a finished cache"),
        ("hf://datasets/ada", r"\(a cache lies in hf://datasets/user/name\)"),
        ("hf://datasets/ada/a b/c", "not an address of the Hub"),
        ("hf://", "names no folder"),
    ],
)
def test_an_address_of_nothing_says_so(world: World, hub: LocalHub, url: str, text: str) -> None:
    push_cache(world.cache16, REPO)
    with pytest.raises(PipelineError, match=text):
        TeacherCache.open(url)


def test_a_private_cache_needs_a_token(
    world: World, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_cache(world.cache16, REPO, private=True)
    monkeypatch.delenv("HF_TOKEN")
    import fsspec

    fsspec.get_filesystem_class("hf").clear_instance_cache()
    with pytest.raises(CacheError, match=r"it is private.*`hf auth login`"):
        TeacherCache.open(URL)


def test_private_does_not_hold_for_a_public_repository(world: World, hub: LocalHub) -> None:
    push_cache(world.cache16, REPO)
    with pytest.raises(HubError, match="is there and public"):
        push_cache(world.cache, REPO, private=True)
    assert "rte.zarr/manifest.json" not in hub.tree(KEY)


def test_copy_names_push(world: World) -> None:
    with pytest.raises(ParamsError, match=f"pkd-cache push {world.cache16} --repo"):
        copy_cache(world.cache16, URL)
    with pytest.raises(ParamsError, match="only a folder can be pushed"):
        push_cache("s3://team/rte.zarr", REPO)


def test_damage_on_the_hub_is_found_by_verify(world: World, hub: LocalHub) -> None:
    push_cache(world.cache16, REPO)
    repo = hub.repos[KEY]
    tree = dict(repo.commits[repo.branches["main"][-1]])
    name = "rte16.zarr/train/cls/c/1/0/0"
    content = bytearray(tree[name].content)
    content[7] ^= 2
    tree[name] = type(tree[name])(bytes(content), True)
    repo.add("main", tree)
    assert hashlib.sha256(content).hexdigest() not in hub.blobs
    problems = " ".join(map(str, check_cache(URL)))
    assert "train/cls/c/1/0/0" in problems
