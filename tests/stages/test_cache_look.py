"""pytest tests/stages/test_cache_look.py - `pkd-cache` info, diff and export, as seen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipeline.store.manifest import Manifest, read_manifest
from pipeline.store.reader import TeacherCache
from stages.cache import cli
from stages.cache.tables import bar, facts, percent, size_text, table
from tests.support import synthetic
from tests.support.tables import table_of, write_table
from tests.support.tiny import World

STARTUP_SECONDS = 0.3


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def shown(*arguments: object) -> str:
    found = run(*arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


def columns(text: str, first: str) -> list[str]:
    """The cells of the line that starts with a word."""
    lines = [line for line in text.splitlines() if re.match(rf"{re.escape(first)}( |$)", line)]
    assert len(lines) == 1, (first, text)
    return re.split(r"\s{2,}", lines[0])


def rewrite(cache: Path, target: Path, **fields: Any) -> Path:
    """The same files under a manifest that says something else."""
    shutil.copytree(cache, target)
    manifest = read_manifest(cache)
    changed = Manifest(**{name: getattr(manifest, name) for name in vars(manifest)} | fields)
    (target / "manifest.json").write_bytes(changed.sealed().to_bytes())
    return target


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    synthetic.write(tmp_path / "made-up.zarr")
    return tmp_path / "made-up.zarr"


# ---- info


def test_info_says_what_a_cache_is(world: World) -> None:
    text = shown("info", world.cache16)
    manifest = json.loads((world.cache16 / "manifest.json").read_bytes())
    said = dict(re.findall(r"^([a-z ]+?) +: (.*)$", text, re.MULTILINE))
    assert said["cache"] == str(world.cache16)
    assert said["task"] == "rte; labels entailment, not_entailment; metric accuracy"
    assert said["layers"] == "1..4 x 16, float16, computed in float32"
    assert said["max length"] == "24 tokens"
    assert said["tokenizer"] == manifest["tokenizer"]["digest"], "the last line of that name"
    assert re.fullmatch(r"rte, 4 layers, [\d,]+ parameters, started from encoder", text_of(text))
    assert said["cache id"] == manifest["cache_id"]
    assert said["content"] == manifest["content_digest"]
    assert said["data"] == manifest["data_digest"]
    assert said["reused"] == "no rows of an earlier cache"
    for name, version in manifest["versions"].items():
        assert f"{name} {version}" in said["libraries"]


def text_of(text: str) -> str:
    """The first line about the teacher."""
    found = re.search(r"^teacher +: (.*)$", text, re.MULTILINE)
    assert found
    return found[1]


def test_info_counts_rows_tokens_and_scores(world: World) -> None:
    text, cache = shown("info", world.cache16), TeacherCache.open(world.cache16)
    places = [text.index(f"\n{name} ") for name in ("train", "validation", "test")]
    assert places == sorted(places)
    for split in cache.splits:
        examples = cache.examples(split).to_pylist()
        tokens = sum(len(row["input_ids"]) for row in examples)
        known = [row for row, each in enumerate(examples) if each["label"] is not None]
        right = cache.logits(split).argmax(-1) == [row["label"] for row in examples]
        share = sum(right[known]) / len(known) if known else 0
        assert columns(text, split) == [
            split, str(len(examples)), str(len(known)), f"{tokens:,}",
            f"{tokens / len(examples):.1f}", f"{100 * share:.1f} %" if known else "-",
            f"accuracy {share:.4f}" if known else "-",
        ]  # fmt: skip


def test_info_draws_the_lengths(world: World) -> None:
    text, cache = shown("info", world.cache16), TeacherCache.open(world.cache16)
    splits = ("train", "validation", "test")
    lengths = {s: [len(ids) for ids in cache.examples(s)["input_ids"].to_pylist()] for s in splits}
    counts = {s: Counter("5-8" if n <= 8 else "9-16" if n <= 16 else "17-32" for n in lengths[s])
              for s in splits}  # fmt: skip
    assert columns(text, "tokens")[:4] == ["tokens", *splits]
    sums = {name: sum(counts[s][name] for s in splits) for name in ("5-8", "9-16", "17-32")}
    for name, total in sums.items():
        *cells, drawn = columns(text, name)
        assert cells == [name, *(str(counts[s][name]) for s in splits)]
        assert drawn == "#" * round(40 * total / max(sums.values()))


def test_info_weighs_the_layers(world: World) -> None:
    text = shown("info", world.cache16)
    derived = json.loads(shown("info", world.cache16, "--json"))["derived"]
    sizes = {
        path.relative_to(world.cache16).as_posix(): path.stat().st_size
        for path in world.cache16.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    total = sum(sizes.values())
    of_cls = sum(size for name, size in sizes.items() if "/cls/c/" in name)
    of_layers = [found["bytes"] for found in derived["layers"].values()]
    # at the end of each of the 6 shards 16 bytes a layer and a checksum of 4
    assert of_cls - sum(of_layers) == 6 * (4 * 16 + 4)
    assert (derived["total_bytes"], sum(derived["parts"].values())) == (total, total)
    raw = 198 * 16 * 2
    assert derived["raw_bytes"] == 4 * raw + 198 * 2 * 4
    for layer, size in zip("1234", of_layers, strict=True):
        assert derived["layers"][layer]["ratio"] == pytest.approx(raw / size)
        assert derived["layers"][layer]["share"] == pytest.approx(size / total)
        error = read_manifest(world.cache16).measured_error["layers"][layer]
        line = columns(text, layer)
        assert line[1:4] == [size_text(size), f"{100 * size / total:.1f} %", f"{raw / size:.2f}"]
        assert line[4:] == [
            f"{error[f'{name}_{kind}']:.1e}"
            for name in ("relative_l2", "cosine_distance") for kind in ("max", "mean")
        ]  # fmt: skip
    examples = sum(size for name, size in sizes.items() if name.endswith("examples.arrow"))
    assert columns(text, "examples")[:2] == ["examples", size_text(examples)]
    on_disk = of_cls + sum(size for name, size in sizes.items() if "/logits/c/" in name)
    assert f"ratio {derived['raw_bytes'] / on_disk:.2f}, of {size_text(26928)}" in text


def test_info_as_json_is_the_manifest_and_more(world: World) -> None:
    content = json.loads(shown("info", world.cache16, "--json"))
    assert content.pop("derived")["splits"]["test"]["unlabelled_rows"] == 11
    assert content == json.loads((world.cache16 / "manifest.json").read_bytes())


def test_info_of_other_kinds_of_cache(tmp_path: Path) -> None:
    fields = synthetic.described()
    fields["task"] |= {"label_names": [], "metrics": ["pearson", "spearman"]}
    fields["teacher"] |= {
        "output_order": [0], "scores": {"train": {"spearman": 0.25, "pearson": 0.5}},
    }  # fmt: skip
    rows = table_of([[1], [1, 2], [1, 2, 3]], [0.5, None, 1.0], regression=True)
    write_table(tmp_path / "c.zarr", rows, outputs=1, dtype="int8", fields=fields)
    text = shown("info", tmp_path / "c.zarr")
    assert "labels a number; metric pearson" in text
    assert columns(text, "train")[1:] == [
        "3",
        "2",
        "6",
        "2.0",
        "-",
        "pearson 0.5000, spearman 0.2500",
    ]
    bins = [line.split()[0] for line in text.split("rows of that length\n")[1].splitlines()[:3]]
    assert bins == ["1", "2", "3-4"]
    assert columns(text, "cls_scale")[0] == "cls_scale"
    assert "started from unknown" in text


def test_info_names_what_was_reused(made_up: Path, tmp_path: Path) -> None:
    reused = {"rows": 1500, "content_digest": "ab" * 32}
    text = shown("info", rewrite(made_up, tmp_path / "c.zarr", reused=reused))
    assert f"reused        : 1,500 rows of the cache with content {'ab' * 32}" in text


def test_info_never_sends_a_terminal_what_it_would_act_on(made_up: Path, tmp_path: Path) -> None:
    teacher = read_manifest(made_up).teacher | {"name": "\x1b]0;gone\x07"}
    found = run("info", rewrite(made_up, tmp_path / "c.zarr", teacher=teacher))
    assert found.exit_code == 1
    assert "malformed manifest: teacher" in found.stderr
    assert "\x1b" not in found.output


def test_info_reads_the_manifest_alone(world: World) -> None:
    """At a URL that holds nothing else."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/only/rte.zarr/manifest.json", (world.cache16 / "manifest.json").read_bytes())
    there = shown("info", "memory://only/rte.zarr").splitlines()
    assert there[0] == "cache         : memory://only/rte.zarr"
    assert there[1:] == shown("info", world.cache16).splitlines()[1:]


def test_info_starts_at_once(world: World) -> None:
    """Time of the processor, so that a busy machine does not count; the best of three."""
    code = (
        "import sys\nfrom stages.cache import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'zarr', 'pyarrow', 'transformers', 'datasets', 'fsspec'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    spent = []
    for _ in range(3):
        before = os.times()
        subprocess.run(
            [sys.executable, "-c", code, "info", world.cache16],
            check=True, capture_output=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        after = os.times()
        spent.append(after.children_user + after.children_system
                     - before.children_user - before.children_system)  # fmt: skip
    assert min(spent) < STARTUP_SECONDS


# ---- diff


def test_diff_of_a_cache_and_its_copy(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.cache, tmp_path / "copy.zarr")
    text = shown("diff", world.cache, tmp_path / "copy.zarr")
    assert text == f"identical: {world.cache} and {tmp_path / 'copy.zarr'} have the same content\n"
    assert json.loads(shown("diff", world.cache, tmp_path / "copy.zarr", "--json"))["identical"]


def test_diff_of_two_types(world: World) -> None:
    text = shown("diff", world.cache, world.cache16)
    assert text.startswith(f"A: {world.cache}\nB: {world.cache16}\ndifferent\n")
    assert columns(text, "stored type") == ["stored type", "float32", "float16"]
    ids = [read_manifest(cache).cache_id[:12] for cache in (world.cache, world.cache16)]
    assert columns(text, "cache id") == ["cache id", *ids]
    assert columns(text, "train") == ["train", "150", *"000000"[:5], "0.0e+00", "0"]
    content = json.loads(shown("diff", world.cache, world.cache16, "--json"))
    assert (content["a"], content["identical"]) == (str(world.cache), False)
    for layer in "1234":
        found = content["layers"][layer]
        assert columns(text, layer)[1:] == [
            f"{found[f'{name}_{kind}']:.1e}"
            for name in ("relative_l2", "cosine_distance") for kind in ("max", "mean")
        ]  # fmt: skip


def test_diff_of_caches_that_have_little_in_common(made_up: Path, world: World) -> None:
    text = shown("diff", made_up, world.cache)
    assert "not compared: values: no row is in both" in text
    assert "only B has validation, test" in text
    assert columns(text, "hidden size") == ["hidden size", "5", "16"]
    assert columns(text, "torch (library)")[1] == "-"
    assert columns(text, "layers") == ["layers", "2, 3, 7", "1, 2, 3, 4"]
    assert columns(text, "train")[:4] == ["train", "0", "37", "150"]
    assert columns(text, "train")[-2:] == ["-", "-"]


def test_diff_of_one_build_on_two_machines(made_up: Path, tmp_path: Path) -> None:
    other = rewrite(made_up, tmp_path / "c.zarr", versions={"numpy": "9"})
    text = shown("diff", made_up, other)
    assert "different, made from the same teacher, tokenizer, data and options (cache id)" in text
    assert columns(text, "numpy (library)") == ["numpy (library)", "-", "9"]


def test_diff_of_what_is_no_cache(world: World) -> None:
    found = run("diff", world.cache, world.raw)
    assert found.exit_code == 1
    assert "not a finished cache" in found.stderr
    assert run("diff", world.cache).exit_code == 2


# ---- export


def test_export_and_what_it_says(world: World, tmp_path: Path) -> None:
    out = tmp_path / "rte.parquet"
    first = run("export", world.cache16, out, "--layers", "2,4", "--split", "validation")
    assert first.exit_code == 0, first.output
    size = size_text(out.stat().st_size)
    assert first.stdout.splitlines() == [
        f"{out}: validation 37 rows; layers 2, 4; {size}",
        "  read back: tokens, labels, logits and vectors are those of the cache",
    ]
    assert pq.read_table(out).num_rows == 37
    again = run("export", world.cache16, out, "--layers", "2,4", "--split", "validation")
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    other = run("export", world.cache16, out, "--layers", "none")
    assert other.exit_code == 1
    assert "--overwrite" in other.stderr
    content = json.loads(
        shown("export", world.cache16, out, "--layers", "none", "--overwrite", "--json")
    )
    assert content == {
        "out": str(out), "rows": {"train": 150, "validation": 37, "test": 11}, "layers": [],
        "size_bytes": out.stat().st_size, "existed": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--layers", "2;4"), 2, "expected all, none, or a list such as 4,8"),
        (("--layers", "2,5"), 1, "layer 5 is not cached; it has 1, 2, 3, 4"),
        (("--split", "dev"), 1, "no split `dev`; it has test, train, validation"),
    ],
)
def test_export_of_what_is_not_there(
    world: World, tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    found = run("export", world.cache16, tmp_path / "c.parquet", *arguments)
    assert found.exit_code == code
    assert text in found.stderr
    assert not (tmp_path / "c.parquet").exists()


def test_a_url_is_as_good_as_a_folder(world: World, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(world.cache16), "/team/rte.zarr", recursive=True)
    assert "identical" in shown("diff", "memory://team/rte.zarr", world.cache16)
    far = shown("diff", world.cache, "memory://team/rte.zarr")
    near = shown("diff", world.cache, world.cache16)
    assert far.splitlines()[3:] == near.splitlines()[3:]
    shown("export", "memory://team/rte.zarr", tmp_path / "far.parquet")
    shown("export", world.cache16, tmp_path / "near.parquet")
    assert (tmp_path / "far.parquet").read_bytes() == (tmp_path / "near.parquet").read_bytes()


# ---- probe


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--seed", "-1"), "Invalid value for '--seed': -1 is not in the range x>=0"),
        (("--plot", "x.foo"), "'--plot': x.foo: expected a name that ends in .png, .svg, .pdf."),
        (("--plot", ""), "expected a name that ends in .png, .svg, .pdf."),
        (("--plot", ".."), "expected a name that ends in .png, .svg, .pdf."),
    ],
)
def test_a_probe_that_cannot_be(world: World, arguments: tuple[str, ...], text: str) -> None:
    found = run("probe", world.cache16, *arguments)
    assert found.exit_code == 2, found.output
    assert text in " ".join(found.stderr.split())


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ("curve", "curve.png"),
        ("out/curve.", "out/curve.png"),
        ("curve.PNG", "curve.PNG"),
        ("curve.svg", "curve.svg"),
    ],
)
def test_the_probe_says_where_it_was_drawn(
    world: World, tmp_path: Path, asked: str, drawn: str
) -> None:
    found = run("probe", world.cache16, "--plot", tmp_path / asked)
    assert found.exit_code == 0, found.output
    assert f"{tmp_path / drawn}: drawn" in found.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / drawn]


# ---- text


def test_text_that_lines_up() -> None:
    assert facts([("a", "1"), ("long", "2")]) == ["a    : 1", "long : 2"]
    assert table([["n", "size"], ["layer", "5"]]) == ["n      size", "layer     5"]
    assert table([["a", "b"], ["x", ""]], left=(0, 1)) == ["a  b", "x"]
    assert [size_text(n) for n in (0, 999, 1000, 999_949, 999_950, 7_240_000_000)] == [
        "0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "7.2 GB",
    ]  # fmt: skip
    assert [bar(n, 80) for n in (0, 1, 40, 80)] == ["", "#", "#" * 20, "#" * 40]
    assert bar(0, 0) == ""
    assert percent(0.1256) == "12.6 %"
