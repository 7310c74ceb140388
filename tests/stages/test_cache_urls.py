"""pytest tests/stages/test_cache_urls.py - every command on a cache that lies in S3."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch

from pipeline.store.copy import copy_cache
from pipeline.store.reader import TeacherCache
from pipeline.store.remote import RemotePlace
from stages import cache, student
from tests.support.commands import fit, run
from tests.support.s3 import LocalS3, local_s3
from tests.support.tiny import World


@pytest.fixture(scope="module")
def s3(world: World) -> Iterator[LocalS3]:
    with pytest.MonkeyPatch.context() as patch, local_s3(patch) as found:
        copy_cache(world.cache16, found.url("rte.zarr"))
        yield found


def test_a_student_is_the_same_from_s3_as_from_a_folder(
    world: World, s3: LocalS3, tmp_path: Path
) -> None:
    found = fit(world, s3.url("rte.zarr"), tmp_path / "remote")
    assert found.exit_code == 0, found.output
    assert f"read {s3.url('rte.zarr')}: " in found.stderr
    assert fit(world, world.cache16, tmp_path / "local").exit_code == 0
    from safetensors.torch import load_file

    one = load_file(tmp_path / "remote" / "model.safetensors")
    other = load_file(tmp_path / "local" / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    scored = run(student.cli, "eval", tmp_path / "remote", "--cache", s3.url("rte.zarr"))
    assert scored.exit_code == 0, scored.output


def test_only_the_bytes_of_the_layers_asked_for_are_fetched(world: World, s3: LocalS3) -> None:
    received = {}
    for layers in ((1,), (1, 3), (1, 2, 3, 4)):
        opened = TeacherCache.open(s3.url("rte.zarr"))
        assert isinstance(opened.place, RemotePlace)
        before = opened.place.received_bytes, opened.place.requests
        opened.stored("train", layers)
        received[len(layers)] = opened.place.received_bytes - before[0]
        shards = 4  # an index and one range a layer for each, and the array's metadata
        assert opened.place.requests - before[1] <= shards * (1 + len(layers)) + 2
    stored = opened.manifest.arrays["train/cls"]["layer_bytes"]
    assert received[1] < stored[0] + 2_500
    assert received[2] - received[1] == stored[2]


def network(url: str) -> list[str]:
    """The requests that go out from now on, as botocore makes them."""
    seen: list[str] = []
    fs = RemotePlace(url).fs
    fs.connect()
    fs.s3.meta.events.register(
        "request-created.s3", lambda request, **_: seen.append(f"{request.method} {request.url}")
    )
    return seen


def test_info_reads_the_manifest_alone(s3: LocalS3) -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    seen = network(s3.url("rte.zarr"))
    found = run(cache.cli, "info", s3.url("rte.zarr"), "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["splits"]["train"]["rows"] == 150
    assert [each.split()[0] for each in seen] == ["HEAD", "GET"]  # its size, then its bytes
    assert all("manifest.json" in each for each in seen)
    opened = TeacherCache.open(s3.url("rte.zarr"))
    assert isinstance(opened.place, RemotePlace)
    assert opened.place.requests == len(seen) - 2 == 2


def test_what_fit_says_of_its_requests_is_what_goes_out(
    world: World, s3: LocalS3, tmp_path: Path
) -> None:
    """One of four layers: the manifest is read twice, by the command and by the library."""
    url = s3.url("rte.zarr")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    seen = network(url)
    found = fit(world, url, tmp_path / "s")
    told = re.search(rf"read {url}: (\d+) requests, ([\d.]+) MB of ([\d.]+) MB", found.stderr)
    assert told, found.stderr
    assert len(seen) == int(told[1]) + 2
    assert not [each for each in seen if "test/" in each or "validation/cls" in each]
    shards = [each for each in seen if "train/cls/c/" in each]
    assert len(shards) == 2 * 4  # of each of the four shards its index, and one layer


def test_eval_fetches_the_tokens_of_its_split_alone(
    world: World, s3: LocalS3, tmp_path: Path
) -> None:
    assert fit(world, world.cache16, tmp_path / "s").exit_code == 0
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    seen = network(s3.url("rte.zarr"))
    found = run(student.cli, "eval", tmp_path / "s", "--cache", s3.url("rte.zarr"))
    assert found.exit_code == 0, found.output
    files = {each.split("rte.zarr/")[1] for each in seen}
    assert files == {"manifest.json", "validation/examples.arrow"}


def test_a_cache_that_another_program_replaces(world: World, s3: LocalS3) -> None:
    """Nothing that was listed or read before is believed."""
    url = s3.url("replaced.zarr")
    copy_cache(world.cache16, url)
    assert run(cache.cli, "verify", url).exit_code == 0
    elsewhere = type(fsspec.filesystem("s3"))(skip_instance_cache=True, **s3.storage_options)
    root = f"{s3.bucket}/replaced.zarr"
    elsewhere.rm(root, recursive=True)
    elsewhere.put(str(world.cache), root, recursive=True)
    assert run(cache.cli, "verify", url).stdout == f"{url}: sound\n"
    content = json.loads(run(cache.cli, "info", url, "--json").stdout)
    assert content["dtype"] == "float32"


def test_verify_finds_damage_in_objects(world: World, s3: LocalS3) -> None:
    url = s3.url("damaged.zarr")
    copy_cache(world.cache16, url)
    fs, root = fsspec.core.url_to_fs(url)
    name = f"{root}/train/cls/c/1/0/0"
    whole = fs.cat_file(name)
    for content, text in (
        (bytes([whole[0], whole[1] ^ 4]) + whole[2:], "has other bytes than were written"),
        (whole[:-3], f"has {len(whole) - 3} bytes"),
    ):
        fs.pipe_file(name, content)
        found = run(cache.cli, "verify", url)
        assert found.exit_code == 1
        assert f"train/cls/c/1/0/0: {text}" in found.stdout
    fs.rm_file(name)
    fs.pipe_file(f"{root}/train/extra", b"x")
    found = run(cache.cli, "verify", url)
    assert "train/cls/c/1/0/0: is missing" in found.stdout
    assert "train/extra: is not part of the cache" in found.stdout
    refused = fit(world, url, Path("nothing"))
    assert refused.exit_code == 1
    assert "missing; run `pkd-cache verify" in refused.stderr


def test_no_credentials_and_no_server_are_one_message(
    s3: LocalS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody there
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore tries five times: 7 to 10 s
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        found = run(cache.cli, "info", s3.url("rte.zarr"))
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert found.exit_code == 1
    assert "the storage did not answer as expected" in found.stderr
    assert "Traceback" not in found.output
