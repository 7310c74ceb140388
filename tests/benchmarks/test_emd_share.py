"""pytest tests/benchmarks/test_emd_share.py"""

from __future__ import annotations

import re

import pytest

from benchmarks.emd_share import main


def test_the_share_of_a_step_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--depths", "2", "--steps", "1", "--hidden", "64"])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"1 threads, \w+; 12 x 64 teacher, batch 32", lines[0])
    depth, step, emd, transport, share = re.findall(r"[\d.]+", lines[2])
    assert (depth, len(lines)) == ("2", 3)
    assert 0 < float(transport) <= float(emd) < float(step)
    assert float(share) / 100 == pytest.approx(float(emd) / float(step), rel=0.2)
