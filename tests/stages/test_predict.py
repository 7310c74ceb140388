"""pytest tests/stages/test_predict.py"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from stages.student import cli
from tests.pipeline.data.undecoded import as_texts
from tests.support.students import save_student
from tests.support.tiny import WORDS, World

DRAW = random.Random(0)
PAIRS = "id,sentence1,sentence2\n" + "".join(
    f"i{n},sun {' '.join(DRAW.choices(WORDS, k=n % 9))},{' '.join(DRAW.choices(WORDS, k=3))}\n"
    for n in range(50)
)


def run(*arguments: object, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["predict", *map(str, arguments)], input=text)


def run_piped(content: bytes, name: str, *arguments: object) -> Result:
    """Through a real pipe with a name: it cannot be read twice."""
    os.mkfifo(name)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(Path(name).write_bytes, content)
        found = run(arguments[0], name, *arguments[1:])
        writing.result()
    Path(name).unlink()
    return found


def table(text: str, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of RTE, as an older version recorded it."""
    folder = tmp_path_factory.mktemp("predict") / "s"
    return save_student(folder, ("entailment", "not_entailment"), task="rte", max_length=24)


@pytest.fixture
def pairs() -> Path:
    path = Path("pairs.csv")  # tests run in a folder of their own
    path.write_text(PAIRS)
    return path


def names_here() -> set[str]:
    return {path.name for path in Path().iterdir()}


@pytest.mark.slow
def test_a_student_predicts_what_eval_writes_as_its_logits(world: World, tmp_path: Path) -> None:
    """Fitted by `fit`, whose record tells the columns; from GLUE's file and from prepared data."""
    shutil.copytree(world.cache, tmp_path / "data" / "rte.zarr")
    fitted = CliRunner().invoke(
        cli,
        ["fit", "--cache", "data/rte.zarr", "--init", str(world.encoder), "--student-layers", "2",
         "--epochs", "1", "--out", "s", "--strategy", "kd"],
    )  # fmt: skip
    assert fitted.exit_code == 0, fitted.output
    assert json.loads(Path("s/run.json").read_text())["text_columns"] == ["sentence1", "sentence2"]
    asked = ["eval", "s", "--cache", "data/rte.zarr", "--logits", "logits.parquet"]
    assert CliRunner().invoke(cli, asked).exit_code == 0
    logits = np.array(pq.read_table("logits.parquet")["logits"].to_pylist())
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for source in (world.source / "dev.tsv", world.raw / "validation.parquet"):
        found = run("s", source, "--out", "p.parquet", "--overwrite", "--batch-size", "7")
        assert found.exit_code == 0, found.output
        columns = pq.read_table("p.parquet").to_pydict()
        assert columns["index"] == list(range(37))
        given = np.array([columns["p_entailment"], columns["p_not_entailment"]]).T
        np.testing.assert_allclose(given, expected, atol=1e-6)
        labels = np.array(["entailment", "not_entailment"])[logits.argmax(-1)]
        assert columns["prediction"] == labels.tolist()


def test_every_format_in_and_out_tells_the_same(folder: Path, pairs: Path) -> None:
    rows = table(PAIRS)
    pq.write_table(pa.Table.from_pylist(rows), "pairs.parquet")
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("pairs.tsv").write_text(PAIRS.replace(",", "\t"))
    kinds = ("csv", "tsv", "jsonl", "parquet")
    for kind, other in zip(kinds, kinds[1:] + kinds[:1], strict=True):
        found = run(folder, f"pairs.{kind}", "--out", f"out.{other}", "--keep", "id")
        assert found.exit_code == 0, found.output
        assert found.stdout.startswith(f"out.{other}: 50 rows in ")
    expected = table(Path("out.csv").read_text())
    assert [row["id"] for row in expected] == [f"i{n}" for n in range(50)]
    assert len({row["prediction"] for row in expected}) == 2
    others = {
        "tsv": table(Path("out.tsv").read_text(), "\t"),
        "jsonl": [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()],
        "parquet": pq.read_table("out.parquet").to_pylist(),
    }
    for rows_found in others.values():
        assert [list(row) for row in rows_found] == [list(row) for row in expected]
        for row, same in zip(rows_found, expected, strict=True):
            assert (str(row["index"]), row["id"]) == (same["index"], same["id"])
            assert row["prediction"] == same["prediction"]
            assert float(row["p_entailment"]) == pytest.approx(float(same["p_entailment"]))


def test_standard_input_to_standard_output(folder: Path, pairs: Path) -> None:
    run(folder, pairs, "--out", "out.csv")
    found = run(folder, "-", "--format", "csv", text=PAIRS)
    assert found.stdout == Path("out.csv").read_text()  # rows alone
    assert "standard output: 50 rows" in found.stderr
    lines = run(folder, "-", "--format", "csv", "--out-format", "jsonl", "-q", text=PAIRS)
    assert [json.loads(line)["index"] for line in lines.stdout.splitlines()] == list(range(50))
    assert lines.stderr == ""


def test_a_pipe_is_predicted_as_it_comes(folder: Path) -> None:
    """Of Parquet, whose table of contents comes last, by a copy."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table(PAIRS)), sink)
    one = run_piped(PAIRS.encode(), "pipe.csv", folder, "--out-format", "csv")
    other = run_piped(sink.getvalue(), "pipe.parquet", folder, "--out-format", "csv")
    assert one.exit_code == other.exit_code == 0
    assert one.stdout == other.stdout
    assert [row["index"] for row in table(one.stdout)] == [str(n) for n in range(50)]


LINES = PAIRS.splitlines(keepends=True)
SPOILED = {4: "i3,one\n", 8: "i7,,two\n", 10: "i9,\xff,two\n"}
BROKEN = "".join(SPOILED.get(n, line) for n, line in enumerate(LINES)).encode("latin-1")
RAGGED = (
    "line 5: expected 3 columns (id, sentence1, sentence2), found 2."
    " A text with a comma or line break must be quoted.\n"
)
STOP = (
    f"Error: bad.csv, {RAGGED}"
    "bad.csv, line 9: `sentence1`: expected text, found none.\n"
    f"bad.csv, line 11: not UTF-8 (byte 0xff at offset {BROKEN.index(0xFF)} of the file)."
    " Save the file as UTF-8.\n"
    "Nothing was written. --on-error skip leaves such rows out and counts them.\n"
)


def test_broken_rows_stop_everything_before_it_begins(folder: Path) -> None:
    Path("bad.csv").write_bytes(BROKEN)
    before = names_here()
    for more in (["--out", "out.csv"], []):
        found = run(folder, "bad.csv", *more)
        assert (found.exit_code, found.stdout) == (1, "")
        assert found.stderr == STOP
    assert names_here() == before


def test_broken_rows_are_left_out_and_counted(folder: Path, pairs: Path) -> None:
    Path("bad.csv").write_bytes(BROKEN)
    run(folder, pairs, "--out", "whole.csv")
    found = run(folder, "bad.csv", "--out", "out.csv", "--on-error", "skip")
    assert found.exit_code == 0
    whole, kept = (table(Path(name).read_text()) for name in ("whole.csv", "out.csv"))
    assert [row["index"] for row in kept] == [str(n) for n in range(50) if n not in (3, 7, 9)]
    for row in kept:  # the same, wherever it stood in its window
        same = whole[int(row["index"])]
        assert row["prediction"] == same["prediction"]
        assert float(row["p_entailment"]) == pytest.approx(float(same["p_entailment"]), abs=1e-6)
    assert "  skipped 3 broken rows:\n    bad.csv, line 5: expected 3 columns" in found.stdout
    again = run(folder, "bad.csv", "--out", "o.csv", "--on-error", "skip", "--json")
    record = json.loads(again.stdout)
    assert (record["rows"], record["skipped"], len(record["problems"])) == (47, 3, 3)
    assert sum(record["summary"].values()) == 47


def test_many_broken_rows_are_listed_in_part(folder: Path) -> None:
    Path("bad.csv").write_text(PAIRS + "x\n" * 9)
    assert "\nand 4 more\nNothing was written." in run(folder, "bad.csv", "--out", "o.csv").stderr
    found = run(folder, "bad.csv", "--out", "o.csv", "--on-error", "skip")
    assert found.stdout.endswith("\n    and 4 more\n")


def test_a_broken_row_in_a_pipe_is_told_as_it_comes(folder: Path) -> None:
    """Rows before it may be out already; a file is not."""
    hint = "--on-error skip leaves such rows out and counts them.\n"
    found = run_piped(BROKEN, "pipe.csv", folder, "--out", "out.csv")
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr == f"Error: pipe.csv, {RAGGED}Nothing was written. {hint}"
    assert names_here() == set()
    to_stream = run_piped(BROKEN, "pipe.csv", folder)
    assert to_stream.exit_code == 1
    assert f"Predictions of the rows before may have been written. {hint}" in to_stream.stderr


def test_no_rows_are_no_mistake(folder: Path) -> None:
    Path("empty.csv").write_text("sentence1,sentence2\n")
    found = run(folder, "empty.csv", "--out", "out.csv")
    assert found.exit_code == 0
    assert Path("out.csv").read_text() == "index,prediction,p_entailment,p_not_entailment\n"


def test_a_regression_gives_scores(pairs: Path) -> None:
    save_student(Path("s"), (), task="stsb", max_length=24)
    found = run("s", pairs, "--out", "out.csv", "--json")
    rows = table(Path("out.csv").read_text())
    assert list(rows[0]) == ["index", "score"]
    scores = [float(row["score"]) for row in rows]
    summary = json.loads(found.stdout)["summary"]
    assert summary == pytest.approx(
        {"mean": sum(scores) / 50, "min": min(scores), "max": max(scores)}
    )


def test_own_tasks_and_columns_of_another_name(tmp_path: Path) -> None:
    save_student(Path("s"), ("a", "b"), task="tickets", max_length=24)
    Path("in.csv").write_text("title,subject\nw1,w2 w3\n")
    assert "no record says which columns" in run("s", "in.csv").stderr
    Path("params.yaml").write_text("tasks: {tickets: {text: subject, labels: [a, b]}}")
    known = run("s", "in.csv")
    assert known.exit_code == 0, known.output
    assert run("s", "in.csv", "--text-columns", "subject").stdout == known.stdout
    assert run("s", "in.csv", "--text-columns", "title").stdout != known.stdout


@pytest.mark.parametrize("source", ["glue", "prepared"])
def test_a_file_for_the_glue_site(folder: Path, world: World, source: str) -> None:
    path = world.source / "test.tsv" if source == "glue" else world.raw / "test.parquet"
    found = run(folder, path, "--glue-submission", "sub")
    assert found.exit_code == 0, found.output
    assert "warning: RTE.tsv: the site expects 3,000 rows, this has 11." in found.stderr
    header, *lines = Path("sub/RTE.tsv").read_text().splitlines()
    assert header == "index\tprediction"
    run(folder, path, "--out", "plain.csv", "--out-format", "csv")
    plain = table(Path("plain.csv").read_text())
    assert lines == [f"{row['index']}\t{row['prediction']}" for row in plain]


def test_a_file_for_the_glue_site_may_be_a_link(folder: Path, world: World) -> None:
    Path("latest.tsv").write_text("old")
    Path("RTE.tsv").symlink_to("latest.tsv")
    found = run(folder, world.source / "test.tsv", "--glue-submission", "RTE.tsv", "--overwrite")
    assert found.exit_code == 0, found.output
    assert "warning: RTE.tsv: the site expects 3,000 rows, this has 11." in found.stderr
    assert Path("latest.tsv").read_text().startswith("index\tprediction\n")
    assert Path("RTE.tsv").is_symlink()


def test_texts_of_parquet_that_are_not_utf8_are_skipped_and_counted(folder: Path) -> None:
    first = as_texts([b"w1 sun", b"caf\xe9", b"w2 rain"])
    pq.write_table(pa.table({"sentence1": first, "sentence2": ["w1"] * 3}), "in.parquet")
    problem = "in.parquet, row 2: `sentence1`: not UTF-8 (byte 0xe9 at offset 3 of the text)."
    stopped = run(folder, "in.parquet", "--out", "o.csv")
    assert stopped.exit_code == 1
    assert stopped.stderr.startswith(f"Error: {problem}")
    assert not Path("o.csv").exists()
    found = run(folder, "in.parquet", "--out", "o.csv", "--on-error", "skip")
    assert found.exit_code == 0, found.output
    assert problem in found.output
    assert [row["index"] for row in table(Path("o.csv").read_text())] == ["0", "2"]


def test_glues_own_files_of_cola_and_mrpc() -> None:
    """No line of column names; other names, and a byte order mark."""
    save_student(Path("cola"), ("unacceptable", "acceptable"), task="cola", max_length=24)
    Path("dev.tsv").write_text("".join(f"gj04\t1\t\tw{n} w{n} sun\n" for n in range(30)))
    assert run("cola", "dev.tsv", "--glue-submission", ".").exit_code == 0
    lines = Path("CoLA.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [str(n) for n in range(30)]
    assert {line.split("\t")[1] for line in lines[1:]} == {"0", "1"}
    save_student(Path("mrpc"), ("not_equivalent", "equivalent"), task="mrpc", max_length=24)
    Path("msr.tsv").write_text('\ufeffQuality\t#1 String\t#2 String\n1\tw1 "sun\tw2\n')
    found = run("mrpc", "msr.tsv", "--keep", "Quality")
    assert [row["Quality"] for row in table(found.stdout, "\t")] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-",), 2, "Standard input needs --format"),
        (("pairs.csv", "--json"), 2, "it needs --out"),
        (("pairs.csv", "--glue-submission", "g", "--out", "o.csv"), 2, "goes without --out"),
        (("pairs.csv", "--glue-submission", "g", "--on-error", "skip"), 2, "needs every row"),
        (("pairs.csv", "--format", "xml"), 2, "'xml' is not one of"),
        (("none.csv",), 1, "none.csv: no such file"),
        ((".",), 1, "expected a file, found a folder"),
        (("pairs.txt",), 1, "cannot tell its format; add --format csv|tsv|jsonl|parquet"),
        (("pairs.csv", "--out", "o.txt"), 1, "o.txt: cannot tell its format"),
        (("pairs.csv", "--out-format", "parquet"), 1, "name a file with --out"),
        (("pairs.csv", "--out", "pairs.csv"), 1, "pairs.csv: is the input"),
        (("pairs.csv", "--out", "old.csv"), 1, "old.csv: is there already; add --overwrite"),
        (("pairs.csv", "--keep", "idd"), 1, "no column `idd`. Did you mean `id`?"),
        (("pairs.csv", "--text-columns", "id"), 1, "expected 2 (sentence1, sentence2) columns"),
        (("hopeless.csv", "--on-error", "skip"), 1, "none of its 2 rows can be read"),
        (("pairs.csv", "--device", "tpu"), 1, "--device tpu"),
    ],
)
def test_mistakes_write_nothing(
    folder: Path, pairs: Path, arguments: tuple[Any, ...], code: int, message: str
) -> None:
    Path("pairs.txt").write_text(PAIRS)
    Path("old.csv").write_text("old")
    Path("hopeless.csv").write_text("sentence1,sentence2\n,\nx\n")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    found = run(folder, *arguments)
    assert found.exit_code == code, found.output
    assert message in found.stderr
    assert "Traceback" not in found.output
    assert found.stdout == ""
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_a_student_that_is_none(pairs: Path) -> None:
    found = run("./none", pairs)
    assert (found.exit_code, found.stdout) == (1, "")
    assert "./none: no such folder" in found.stderr


def test_overwrite_replaces_a_file(folder: Path, pairs: Path) -> None:
    Path("out.csv").write_text("old")
    assert run(folder, pairs, "--out", "out.csv", "--overwrite").exit_code == 0
    assert len(table(Path("out.csv").read_text())) == 50
    assert names_here() == {"pairs.csv", "out.csv"}
