"""pytest tests/pipeline/data/test_hub.py. No network: a folder in the hub's layout stands in."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.data import hub
from pipeline.data.hub import read_hub
from pipeline.errors import DataError
from pipeline.tasks import BUILT_IN, Task

RTE = BUILT_IN["rte"]
ROWS: dict[str, list[int]] = {"train": [0, 1, 1], "validation": [1, 0], "test": [-1, -1]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `datasets` keep its files below the test's folder, and believe in a network."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


def hub_copy(
    root: Path,
    names: Sequence[str] = RTE.label_names,
    rows: dict[str, list[int]] | None = None,
    texts: Sequence[str] = ("sentence1", "sentence2"),
) -> str:
    """A repository like nyu-mll/glue with one config; returns its folder."""
    rows = rows or ROWS
    (root / "rte").mkdir(parents=True)
    for split, labels in rows.items():
        columns: dict[str, Any] = {
            name: [f"{split} {name} {row}" for row in range(len(labels))] for name in texts
        }
        columns |= {"label": pa.array(labels, pa.int64()), "idx": list(range(len(labels)))}
        pq.write_table(pa.table(columns), root / f"rte/{split}-00000-of-00001.parquet")
    (root / "README.md").write_text(f"---\n{yaml.safe_dump(_card(names, rows, texts))}---\n")
    return str(root)


def _card(names: Sequence[str], rows: dict[str, list[int]], texts: Sequence[str]) -> Any:
    classes = {str(place): name for place, name in enumerate(names)}
    features = [{"name": name, "dtype": "string"} for name in texts]
    features += [{"name": "label", "dtype": {"class_label": {"names": classes}}}]  # type: ignore[dict-item]
    features += [{"name": "idx", "dtype": "int64"}]
    paths = [{"split": split, "path": f"rte/{split}-*"} for split in rows]
    return {
        "dataset_info": [{"config_name": "rte", "features": features}],
        "configs": [{"config_name": "rte", "data_files": paths}],
    }


def test_a_task_in_the_hubs_layout(tmp_path: Path) -> None:
    source = read_hub(RTE, hub_copy(tmp_path / "glue"))
    assert (source.kind, source.name) == ("hub", "glue")
    assert source.splits["train"].table.to_pylist()[2] == {
        "example_id": 2,
        "sentence1": "train sentence1 2",
        "sentence2": "train sentence2 2",
        "label": 1,
    }
    assert source.splits["validation"].table["label"].to_pylist() == [1, 0]
    assert source.splits["test"].table["label"].to_pylist() == [None, None]


def test_unlabelled_training_rows_are_named(tmp_path: Path) -> None:
    copy = hub_copy(tmp_path / "glue", rows={**ROWS, "train": [0, 1, 1, -1]})
    with pytest.raises(DataError, match=r"rte, train, row 4: label: expected .*; found `-1`"):
        read_hub(RTE, copy)


def test_another_order_of_label_names_is_refused(tmp_path: Path) -> None:
    copy = hub_copy(tmp_path / "glue", names=RTE.label_names[::-1])
    with pytest.raises(DataError, match=r"expected the labels \['entailment', .* in this order"):
        read_hub(RTE, copy)


def test_a_missing_column_or_split_is_named(tmp_path: Path) -> None:
    copy = hub_copy(tmp_path / "glue", texts=("premise", "hypothesis"))
    with pytest.raises(DataError, match="train: no column `sentence1`"):
        read_hub(RTE, copy)
    some = hub_copy(tmp_path / "some", rows={"train": [0], "validation": [1]})
    with pytest.raises(DataError, match="some, rte: no split test"):
        read_hub(RTE, some)


def test_a_task_that_the_repository_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"`wnli` could not be had from the hub .*'wnli' not found"):
        read_hub(BUILT_IN["wnli"], hub_copy(tmp_path / "glue"))


def test_own_tasks_are_not_on_the_hub() -> None:
    own = Task(name="tickets", text_columns=("text",), label_names=("a", "b"))
    with pytest.raises(DataError, match=r"your own, .* --source DIR.*data\.tasks\.tickets"):
        read_hub(own)


def test_without_a_network_the_error_is_quick_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "_reachable", lambda _: False)
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        read_hub(RTE)
    assert time.monotonic() - start < 5  # the library's own retries take 23 s
    assert "nyu-mll/glue" in str(caught.value)
    assert "does not answer" in str(caught.value)
    assert str(caught.value).endswith("pkd-data prepare --task rte --source DIR")
    assert datasets.config.HF_HUB_OFFLINE is False


def test_without_a_network_an_earlier_download_is_used(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_hub(RTE, hub_copy(tmp_path / "glue"))
    (built,) = (path.parent for path in own_cache.glob("glue/rte/*/*/dataset_info.json"))
    version = own_cache / "nyu-mll___glue" / "rte" / "0.0.0"
    version.mkdir(parents=True)
    built.rename(version / ("0" * 40))
    monkeypatch.setattr(hub, "_reachable", lambda _: False)
    source = read_hub(RTE)
    assert source.name == "nyu-mll/glue"
    assert source.splits["train"].table.num_rows == 3


class _RefusedError(Exception):
    response = object()


@pytest.mark.parametrize(
    ("error", "expected"), [(None, True), (_RefusedError(), True), (OSError, False)]
)
def test_any_answer_means_that_the_hub_is_there(
    monkeypatch: pytest.MonkeyPatch, error: Any, expected: bool
) -> None:
    def dataset_info(*_: Any, **__: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    assert hub._reachable("nyu-mll/glue") is expected


def test_progress_bars_of_the_library_are_as_before(tmp_path: Path) -> None:
    from datasets.utils import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    read_hub(RTE, hub_copy(tmp_path / "glue"))
    assert are_progress_bars_disabled() is before
