"""pytest tests/benchmarks/test_results_published.py - figures of papers are as read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.results.published import Published, load_published

# of tables of the PKD and BERT-EMD papers that were never read here, however well known they are
NOT_READ = {
    "PKD, table 1": "94.3 89.2/85.2 69.1 63.6 64.7 80.5/72.6 79.5/71.1 80.7/72.5 55.2 56.2 58.2",
    "PKD, table 2": "91.9 85.1/79.5 70.5/88.9",
    "PKD, table 3": "54.32 58.74 60.34 61.07 66.57 57.78",
    "PKD, table 5": "88.2/84.3 85.7 72.8 80.2 79.7 53.7 77.8/70.7 53.2",
    "BERT-EMD": "82.1/80.6 25.6 82.3 84.7/83.5 47.5 71.7",
}


def test_no_figure_is_printed_that_nobody_has_read() -> None:
    figures = {figure for each in load_published() for row in each.rows.values() for figure in row}
    for table, not_read in NOT_READ.items():
        assert not figures & set(not_read.split()), table


def test_figures_are_those_of_the_sources() -> None:
    pkd, tiny, table2, table3, table4, table5 = load_published()
    assert figure(pkd, "KD, 6 layers", "RTE") == "67.51"
    assert figure(pkd, "PKD-Skip, 6 layers", "MRPC") == "84.56"
    assert figure(pkd, "teacher, 24 layers", "RACE") == "-"
    assert figure(tiny, "BERT6-PKD", "MNLI") == "81.5/81.0"
    assert figure(tiny, "PD", "CoLA") == "-"
    assert figure(table2, "PeaBERT3", "average") == "81.7"
    assert figure(table3, "PeaBERT", "RTE") == "73.6"
    assert table4.rows["SPS-2"] == table5.rows["BERT3 + SPS"]  # one student, one split
    assert figure(table5, "+ PTP", "average") == "84.5"


def figure(table: Published, row: str, column: str) -> str:
    return table.rows[row][table.columns.index(column)]


def test_averages_are_of_their_rows() -> None:
    # most digits copied wrongly would show; the papers' averages are of figures not yet rounded
    for table in load_published()[2:]:
        for name, row in table.rows.items():
            *parts, average = (float(each) for each in row)
            assert average == pytest.approx(sum(parts) / len(parts), abs=0.1), (table.title, name)


def test_two_splits_of_pea_kd_share_no_table() -> None:
    both = [each for each in load_published() if {"PeaBERT3", "+ PTP"} & set(each.rows)]
    assert [each.title[:15] for each in both] == ["Pea-KD, table 2", "Pea-KD, table 5"]
    assert "never to be put in one column" in both[0].about


def test_a_row_of_another_length_is_refused(tmp_path: Path) -> None:
    table = {
        "title": "T",
        "about": "",
        "source": "",
        "columns": "A B",
        "rows": {"x": "1.0 2.0 3.0"},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump([table]))
    with pytest.raises(AssertionError, match="T: x has 3 figures"):
        load_published(tmp_path / "p.yaml")
