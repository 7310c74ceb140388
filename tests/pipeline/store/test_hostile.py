"""pytest tests/pipeline/store/test_hostile.py - a made-up manifest is refused, cheaply and clearly.

Every attack is sealed (`tests.support.hostile`): all digests agree. It is read by a process with
1.5 GiB of room (`tests.support.victim`), and must come to an error of ours on one line that names
the file, within a second of computing and 100 MB; or to the values that were there before.
`test_hostile_arrays.py` and `test_hostile_examples.py` attack the other files.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CacheError
from pipeline.files import canonical_json
from pipeline.store.manifest import LARGEST_MANIFEST, Manifest, read_manifest
from pipeline.tasks import METRICS
from tests.support.hostile import (
    EXAMPLES_FILE,
    FIRST_CLS,
    FIRST_LOGITS,
    forged,
    resized,
    sealed,
)
from tests.support.victim import Report, Victim, require_cheap, require_refused

Attack = Callable[[Path], None]
Change = Callable[[dict[str, Any]], object]


# --- the manifest --------------------------------------------------------------


def set_at(*path: str | int, to: Any) -> Change:
    """A value somewhere in the manifest is replaced."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


BAD_NAMES = [
    "../evil", "train/../../evil", "/etc/passwd", "train//logits/c/0/0", "./zarr.json", "train/.",
    "..", "", "/", "train\\..\\evil", "C:\\evil", "train/\0", "train/a\nb", "train/\x1b[2J",
    "train/\u202eevil", "x" * 4000, "train/" + "a/" * 1000 + "b", "manifest.json",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:30])
def test_a_file_name_that_leaves_the_folder(cache: Path, victim: Victim, name: str) -> None:
    """In the place of a shard's name, and beside it."""
    for change in (dict.pop, dict.get):
        with forged(cache) as content:
            content["files"].setdefault(FIRST_CLS, content["files"].get(name))
            content["files"][name] = change(content["files"], FIRST_CLS)
        require_refused(victim.examine(cache), "open", r"manifest\.json: malformed manifest: files")


@pytest.mark.parametrize(
    "name", ["..", ".", "/tmp", "a/b", "a\\b", "Train", "train\n", "", "x" * 65, "\u017ftrain"]
)
def test_a_split_name_that_leaves_the_folder(cache: Path, victim: Victim, name: str) -> None:
    with forged(cache) as content:
        for part in ("splits", "row_digests"):
            content[part][name] = content[part].pop("train")
        for part in ("arrays", "files"):
            content[part] = {re.sub("^train", name.replace("\\", r"\\"), key): value
                             for key, value in content[part].items()}  # fmt: skip
    require_refused(victim.examine(cache), "open", r"manifest\.json: malformed manifest")


@pytest.mark.parametrize("name", ["../../up", "/abs", ".hidden", "a/b", "a\\b", "", "x" * 129])
def test_a_task_whose_name_would_leave_the_folder_of_students(
    cache: Path, victim: Victim, name: str
) -> None:
    """`pkd-student fit` names its folder after the task."""
    with forged(cache) as content:
        content["task"]["name"] = name
    require_refused(victim.examine(cache), "open", r"manifest\.json: malformed manifest: task is")


@pytest.mark.parametrize("hub_id", ["../model", "/abs/model", "a/../b", "a/b/c", "~/x", ".x", ""])
def test_a_base_model_that_is_a_path(cache: Path, victim: Victim, hub_id: str) -> None:
    """A student starts from the model that the cache names when it is told no other."""
    with forged(cache) as content:
        content["teacher"]["base"] = {"name": "b", "digest": None, "hub_id": hub_id}
    require_refused(victim.examine(cache), "open", r"malformed manifest: teacher is")


@pytest.mark.parametrize("hub_id", ["bert-base-uncased", "google/bert_uncased_L-2_H-128", "a/b.c"])
def test_a_base_model_of_the_hub_is_fine(cache: Path, hub_id: str) -> None:
    with forged(cache) as content:
        content["teacher"]["base"] = {"name": hub_id, "digest": None, "hub_id": hub_id}
    assert read_manifest(cache).teacher["base"]["hub_id"] == hub_id


HUGE: dict[str, dict[str, Any]] = {
    "rows, one shard": {"rows": 1 << 40, "shard_rows": 1 << 40, "hidden": 1, "dtype": "int8"},
    "rows, many shards": {"rows": 1 << 40},
    "rows beyond the limit": {"rows": 1 << 50, "shard_rows": 1 << 50},
    "shard_rows": {"shard_rows": 1 << 40},
    "shard_rows, a chunk of 2 GiB": {"shard_rows": 1 << 31, "hidden": 1, "dtype": "int8"},
    "shard_rows, logits of 8 GiB": {"shard_rows": 1 << 20, "hidden": 1, "outputs": 2048},
    "shard_rows, scales of 4 GiB": {
        "shard_rows": 1 << 20, "hidden": 1, "layers": 1024, "dtype": "int8",
    },
    "hidden": {"hidden": 1 << 40},
    "hidden within limits": {"hidden": 1 << 16, "shard_rows": 1 << 16},
    "hidden and layers from little": {
        "hidden": 1 << 16, "layers": 1024, "shard_rows": 1024, "rows": 1024, "dtype": "float32",
    },
    "layers": {"layers": 1 << 14},
    "outputs": {"outputs": 1 << 17},
    "tokens": {"tokens": 1 << 50},
    "tokens beyond the file": {"tokens": 1 << 40},
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("file_bytes", [60_000, 1 << 40])
def test_a_shape_or_size_that_is_absurd(
    cache: Path, victim: Victim, name: str, file_bytes: int
) -> None:
    """The files are small; what the manifest claims of them is small too, or what it would take."""
    with forged(cache) as content:
        resized(content, file_bytes=file_bytes, **HUGE[name])
        if "beyond the file" in name:
            content["files"][EXAMPLES_FILE]["size"] = 1 << 30
    require_refused(victim.examine(cache), "open", r"manifest\.json: malformed manifest: ")


def test_what_a_manifest_may_claim_is_compared_with_the_files_first(
    cache: Path, victim: Victim
) -> None:
    """A plausible manifest of a terabyte over files of some bytes."""
    with forged(cache) as content:
        resized(
            content, file_bytes=1 << 28, rows=1 << 22, hidden=1 << 12, layers=24, shard_rows=1 << 14
        )
    Manifest.from_bytes((cache / "manifest.json").read_bytes(), "x")
    report = victim.examine(cache)
    require_cheap(report)
    assert len(report.failures) == 3
    assert all("pkd-cache verify" in each.text for each in report.failures.values())
    assert "train/logits/c/0/0" in report.failures["train.logits"].text


MEANINGLESS: dict[str, tuple[Change, str]] = {
    "no splits": (set_at("splits", to={}), "it has no splits"),
    "layers out of order": (set_at("layers", to=[3, 2, 7]), "layers is"),
    "a layer twice": (set_at("layers", to=[2, 2, 7]), "layers is"),
    "layers the teacher lacks": (set_at("teacher", "layers", to=6), "layers is"),
    "errors of other layers": (set_at("measured_error", "layers", to={}), "measured_error is of"),
    "outputs of other labels": (set_at("outputs", to=3), "outputs is 3"),
    "a label twice": (set_at("task", "label_names", to=["a", "a"]), "task has a label twice"),
    "an unknown metric": (set_at("task", "metrics", to=["os.system"]), "task is"),
    "a metric of numbers": (set_at("task", "metrics", to=["pearson"]), "labels do not fit"),
    "outputs in no order": (set_at("teacher", "output_order", to=[0, 0]), "output_order is"),
    "outputs beyond": (set_at("teacher", "output_order", to=[0, 2]), "output_order is"),
    "padding beyond the words": (set_at("tokenizer", "pad_id", to=9), "pad_id is 9"),
    "more labels than rows": (set_at("splits", "train", "labelled_rows", to=13), "more labelled"),
    "a histogram of others": (
        set_at("splits", "train", "length_histogram", to={"8": 11}), "a length histogram of other",
    ),
    "a bin that is none": (
        set_at("splits", "train", "length_histogram", to={"9": 12}), "histogram with the bin '9'",
    ),
    "no tokens": (set_at("splits", "train", "tokens", to=11), "12 rows of 11 tokens"),
    "too many tokens": (set_at("splits", "train", "tokens", to=97), "12 rows of 97 tokens"),
    "arrays of another type": (set_at("dtype", to="float32"), "cannot have|arrays are not"),
    "an array more": (
        set_at("arrays", "train/x", to={"shape": [1, 1], "dtype": "i"}), "arrays are not",
    ),
    "an array less": (lambda content: content["arrays"].pop("train/logits"), "arrays are not"),
    "digests of other splits": (set_at("row_digests", to={}), "row_digests are of other"),
    "a digest less": (
        lambda content: content["row_digests"]["train"]["cls"].pop(), "is of another shape",
    ),
    "layer bytes of others": (
        set_at("arrays", "train/cls", "layer_bytes", to=[1, 1, 1]), "a layer_bytes that is not",
    ),
    "an empty shard": (set_at("files", FIRST_CLS, "size", to=0), "cls/c/0/0/0 cannot have 0 bytes"),
    "a large zarr.json": (
        set_at("files", "zarr.json", "size", to=1 << 20), r"zarr\.json has 1,048,576 bytes",
    ),
    "a text that moves the cursor": (set_at("data_digest", to="\x1b[2Jd"), "data_digest is"),
    "a text of two lines": (set_at("teacher", "name", to="a\nb"), "teacher is"),
    "a very long text": (set_at("data_digest", to="x" * 5000), "data_digest is"),
    "a lone surrogate": (set_at("data_digest", to="\ud800"), "data_digest is"),
    "a truth value for a number": (set_at("format_version", to=True), "format_version is True"),
    "a fraction for a number": (set_at("format_version", to=1.0), r"format_version is 1\.0"),
    "NaN": (set_at("measured_error", "logits_abs_max", to=float("nan")), "measured_error is"),
    "infinity": (set_at("teacher", "agreement", to={"a": float("inf")}), "teacher is"),
    "a number of 400 digits": (set_at("max_length", to=10**400), "max_length is"),
    "a number of 400 digits for a fraction": (
        set_at("measured_error", "logits_abs_max", to=10**400), "OverflowError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANINGLESS)
def test_a_manifest_whose_parts_do_not_fit(cache: Path, victim: Victim, name: str) -> None:
    change, message = MEANINGLESS[name]
    with forged(cache) as content:
        change(content)
    require_refused(
        victim.examine(cache), "open", rf"manifest\.json: malformed manifest: .*{message}"
    )


def test_the_metrics_of_a_manifest_are_those_that_there_are() -> None:
    from pipeline.store import fields

    assert fields.METRICS == METRICS


RAW_MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "a key twice": lambda raw: b'{"format":"x",' + raw[1:],
    "the same key twice": lambda raw: b'{"arrays":{},' + raw[1:],
    "a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "UTF-32": lambda raw: raw.decode().encode("utf-32"),
    "a line end": lambda raw: raw + b"\n",
    "a space": lambda raw: raw.replace(b":", b": ", 1),
    "an escape": lambda raw: raw.replace(b'"arrays"', b'"\\u0061rrays"', 1),
    "1.0 for 1": lambda raw: raw.replace(b'"format_version":1', b'"format_version":1.0'),
    "1e0 for 1": lambda raw: raw.replace(b'"format_version":1', b'"format_version":1e0'),
    "two documents": lambda raw: raw + raw,
    "a truncated one": lambda raw: raw[: len(raw) // 2],
    "5000 digits": lambda raw: raw.replace(b'"max_length":8', b'"max_length":' + b"8" * 5000),
    "1e999": lambda raw: raw.replace(b'"rows":0', b'"rows":1e999', 1),
    "-Infinity": lambda raw: raw.replace(b'"rows":0', b'"rows":-Infinity', 1),
    "NUL bytes": lambda raw: b"\0" * len(raw),
    "0xff": lambda raw: b"\xff" * len(raw),
    "a million brackets": lambda raw: b"[" * 1_000_000,
    "a million objects": lambda raw: b'{"a":' * 1_000_000,
    "pickle": lambda raw: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "an unknown field": lambda raw: b'{"\\u001b[2J\\ud800":1,' + raw[1:],
    "a long unknown field": lambda raw: b'{"' + b"a" * 1_000_000 + b'":1,' + raw[1:],
    "null": lambda raw: b"null",
    "a list of itself": lambda raw: b"[" + raw + b"]",
}


@pytest.mark.parametrize("name", RAW_MANIFESTS)
def test_a_manifest_of_other_bytes(cache: Path, victim: Victim, name: str) -> None:
    path = cache / "manifest.json"
    path.write_bytes(RAW_MANIFESTS[name](path.read_bytes()))
    require_refused(victim.examine(cache), "open", r"manifest\.json: ")


@pytest.mark.parametrize("depth", [100, *range(940, 1000, 7), 1100, 100_000])
def test_nesting_of_any_depth(cache: Path, victim: Victim, depth: int) -> None:
    """Around the interpreter's limit, where parsing still works and what follows does not."""
    path = cache / "manifest.json"
    deep = b"[" * depth + b"]" * depth
    path.write_bytes(path.read_bytes().replace(b'"data_digest":"d"', b'"data_digest":' + deep))
    require_refused(victim.examine(cache), "open", r"manifest\.json: ")


def of_format(field: str, value: str, name: str) -> Any:
    """A parameter."""
    return pytest.param(field, value, id=f"{field} {name}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        of_format("format", "2", "number"),
        of_format("format_version", "2", "number"),
        of_format("format_version", "null", "null"),
        of_format("format", "[[[1]]]", "list"),
        of_format("format", '"\\ud800\\u001b[2J\\n"', "control"),
        of_format("format_version", '"\\ud800"', "surrogate"),
        of_format("format_version", '"\\u001b[2J\\n"', "control"),
        of_format("format_version", "1" * 4000, "digits"),
        of_format("format", '"' + "x" * 9999 + '"', "long"),
    ],
)
def test_another_format_is_named_in_one_plain_line(
    cache: Path, victim: Victim, field: str, value: str
) -> None:
    path = cache / "manifest.json"
    found = re.sub(rf'"{field}":("[^"]*"|1)', lambda _: f'"{field}":{value}', path.read_text())
    path.write_text(found)
    require_refused(victim.examine(cache), "open", r"manifest\.json: ")


@pytest.mark.parametrize("size", [LARGEST_MANIFEST + 1, 1 << 30, 1 << 40])
def test_a_manifest_of_a_gigabyte(cache: Path, victim: Victim, size: int) -> None:
    os.truncate(cache / "manifest.json", size)
    require_refused(victim.examine(cache), "open", r"manifest\.json: .* too large")


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1.5,", b'"",'])
def test_the_largest_manifest_is_parsed_in_bounded_memory(
    cache: Path, victim: Victim, part: bytes
) -> None:
    """Empty lists take the most memory for their text."""
    raw = b"[" + part * ((LARGEST_MANIFEST - 3) // len(part)) + b"0]"
    (cache / "manifest.json").write_bytes(raw)
    report = victim.examine(cache)
    assert report.flaws() == []
    assert "manifest.json: " in report.failures["open"].text


WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    1 << 63,
    1.5,
    "",
    "x",
    "../x",
    "\ud800",
    [],
    {},
    [[]],
    [None],
]


OF_ANOTHER_FORMAT = {("format",), ("format_version",)}  # named before anything else is looked at


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    if path:
        yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield from paths_of(each, (*path, key))


def test_a_wrong_type_anywhere(sound: Path, record_property: Callable[[str, object], None]) -> None:
    """Every value of the manifest by every wrong one: refused in one line, or read as it is."""
    raw, trials, accepted = (sound / "manifest.json").read_bytes(), 0, 0
    for path in set(paths_of(json.loads(raw))) - OF_ANOTHER_FORMAT:
        for wrong in WRONG:
            content = json.loads(raw)
            set_at(*path, to=wrong)(content)
            trials += 1
            try:
                manifest = Manifest.from_bytes(sealed(content), "the/manifest.json")
            except CacheError as error:
                text = str(error)
                assert text.isprintable(), (path, wrong)
                assert text.startswith("the/manifest.json: "), (path, wrong)
                assert len(text) < 300
            else:
                accepted += 1
                assert canonical_json(manifest.to_dict()) == sealed(content)
    record_property("wrong values in a manifest", f"{trials}, {accepted} of them possible ones")
    assert accepted < trials / 10


@pytest.mark.parametrize("missing", ["surprise", "layers"])
def test_a_field_more_or_less(cache: Path, victim: Victim, missing: str) -> None:
    with forged(cache) as content:
        content.pop(missing, None)
        if missing == "surprise":
            content["surprise"] = None
    require_refused(victim.examine(cache), "open", rf"fields missing or unknown: .*{missing}")


# --- files that are no plain files -----------------------------------------------


def link(name: str) -> Attack:
    def attack(cache: Path) -> None:
        path = cache / name
        path.rename(cache.parent / "elsewhere")
        path.symlink_to(cache.parent / "elsewhere")

    return attack


def fifo(name: str) -> Attack:
    def attack(cache: Path) -> None:
        (cache / name).unlink()
        os.mkfifo(cache / name)

    return attack


def zero_device(name: str) -> Attack:
    def attack(cache: Path) -> None:
        (cache / name).unlink()
        try:
            os.mknod(cache / name, 0o20666, os.makedev(1, 5))
        except PermissionError:
            (cache / name).symlink_to("/dev/zero")

    return attack


def local_socket(name: str) -> Attack:
    def attack(cache: Path) -> None:
        (cache / name).unlink()
        before = Path.cwd()
        os.chdir((cache / name).parent)  # a socket's path has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as made:
            made.bind((cache / name).name)
        os.chdir(before)

    return attack


def folder(name: str) -> Attack:
    def attack(cache: Path) -> None:
        (cache / name).unlink()
        (cache / name).mkdir()

    return attack


@pytest.mark.parametrize("kind", [link, fifo, zero_device, local_socket, folder])
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("manifest.json", "open"),
        (EXAMPLES_FILE, "train.examples"),
        (FIRST_CLS, "train.cls"),
        (FIRST_LOGITS, "train.logits"),
        ("train/cls/zarr.json", "train.cls"),
        ("zarr.json", "verify"),
    ],
)
def test_something_that_is_no_plain_file(
    cache: Path,
    victim: Victim,
    original: Report,
    kind: Callable[[str], Attack],
    name: str,
    step: str,
) -> None:
    """Not followed, not waited for, not read without end - though the content may be the same."""
    kind(name)(cache)
    report = victim.examine(cache)
    require_cheap(report)
    if step == "verify":
        assert report.values == original.values
    else:
        assert step in report.failures
    assert not report.verified
    assert any(name in text for text in report.texts)


@pytest.mark.parametrize("name", ["train", "train/cls", "train/cls/c", "train/logits/c/0"])
def test_a_folder_that_is_a_link(cache: Path, victim: Victim, name: str) -> None:
    link(name)(cache)
    report = victim.examine(cache)
    require_cheap(report)
    assert {"train.logits", "train.cls"} & report.failures.keys()
    assert any(found == name for found, _ in report.findings)


def test_a_link_in_a_circle(cache: Path, victim: Victim) -> None:
    (cache / "train" / "again").symlink_to(cache)
    (cache / "self").symlink_to("self")
    report = victim.examine(cache)
    require_cheap(report)
    assert {name for name, _ in report.findings} == {"self", "train/again"}


def test_names_that_no_terminal_should_print(cache: Path, victim: Victim) -> None:
    (cache / "a\x1b[2J\nb").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(cache) + b"/\xff\xfe")).write_bytes(b"")
    report = victim.examine(cache)
    require_cheap(report)
    assert len(report.findings) == 2


def test_folders_in_folders_beyond_any_limit(cache: Path, victim: Victim) -> None:
    before = Path.cwd()
    os.chdir(cache)
    for _ in range(1500):
        os.mkdir("d")  # noqa: PTH102 - its whole path is too long for pathlib
        os.chdir("d")
    Path("file").write_bytes(b"")
    os.chdir(before)
    report = victim.examine(cache)
    subprocess.run(["rm", "-rf", str(cache)], check=True)  # rmtree recurses too
    require_cheap(report)
    assert not report.verified


def test_a_cache_that_is_no_folder(tmp_path: Path, victim: Victim) -> None:
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").mkdir()
    for name in ("file", "fifo", "empty", "none"):
        report = victim.examine(tmp_path / name)
        require_refused(report, "open", "no such cache|not a finished cache")


def test_a_cache_that_is_a_link_to_itself(tmp_path: Path, victim: Victim) -> None:
    (tmp_path / "loop").symlink_to("loop")
    require_cheap(victim.examine(tmp_path / "loop"))


def test_a_victim_tells_of_a_crash_a_hang_and_a_blow_up(sound: Path) -> None:
    """The harness itself: what it must notice, it notices; and it goes on."""
    code = """
import os, time
from tests.support import victim

def harmed(path):
    if path.name == "crash":
        os.kill(os.getpid(), 11)
    if path.name == "hang":
        time.sleep(60)
    if path.name == "blow-up":
        bytearray(2 << 30)
    if path.name == "bug":
        raise KeyError(path)
    return real(path)

real, victim.TeacherCache.open = victim.TeacherCache.open, harmed
victim.main()
"""
    with Victim(sound, patience=2.0, code=code) as process:

        def flaw(name: str) -> str:
            return process.examine(Path(name)).flaws()[0]

        assert "KeyError" in flaw("bug")
        assert "MemoryError" in flaw("blow-up")
        assert flaw("crash") == "process: process: died, status -11"
        assert process.examine(sound).verified
        assert flaw("hang") == "process: process: no answer in time"
