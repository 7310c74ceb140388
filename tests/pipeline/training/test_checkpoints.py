"""pytest tests/pipeline/training/test_checkpoints.py - what a kill leaves to go on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.training.checkpoints import _replace, has_checkpoint


def write_number(number: int, folder: Path) -> None:
    folder.mkdir()
    (folder / "progress.json").write_text(str(number))


def number_in(state: Path) -> int | None:
    """Of the checkpoint that a run would go on from."""
    assert has_checkpoint(state)
    name = "last" if (state / "last" / "progress.json").exists() else "old-last"
    return int((state / name / "progress.json").read_text())


@pytest.mark.parametrize("killed", ["writing", "first rename", "second rename"])
def test_one_checkpoint_or_the_other_is_there_after_two_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """The second one in the same place, or in the writing of the next checkpoint."""
    last, rename = tmp_path / "last", Path.rename
    _replace(last, lambda folder: write_number(1, folder))

    def dying(folder: Path, target: Path) -> Path:
        if killed == {"last": "first rename", "new-last": "second rename"}[folder.name]:
            raise KeyboardInterrupt
        return rename(folder, target)

    def write(folder: Path) -> None:
        write_number(2, folder)
        if killed == "writing":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            _replace(last, write)
    assert number_in(tmp_path) == 1

    def full_disk(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        _replace(last, full_disk)
    assert number_in(tmp_path) == 1
    _replace(last, lambda folder: write_number(3, folder))
    assert number_in(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]
