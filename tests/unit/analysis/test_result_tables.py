"""The tables of README.md and docs/results.md are those of the files in results/."""

import csv
import re

import pytest

from analysis import result_tables
from tests.helpers import ROOT


@pytest.mark.parametrize("page", result_tables.PAGES)
def test_tables_are_up_to_date(page):
    text = (ROOT / page).read_text()
    assert result_tables.updated(text) == text, "run make tables"


def test_an_edited_cell_is_put_right():
    text = (ROOT / "docs/results.md").read_text()
    edited = text.replace("| cheetah_run | 318, 240, 273 |", "| cheetah_run | 318, 240, 274 |")
    assert edited != text and result_tables.updated(edited) == text


def test_every_table_is_on_a_page_and_no_other():
    found = [re.findall(r"<!-- table: (\w+) -->", (ROOT / page).read_text()) for page in result_tables.PAGES]
    assert sorted(sum(found, [])) == sorted(result_tables.TABLES)


def test_a_row_against_its_files():
    last = []
    for seed in (1, 2, 3):
        with open(ROOT / f"results/first_evidence/walker_run-fixed-s{seed}/eval.csv") as file:
            row = list(csv.DictReader(file))[-1]
        assert row["step"] == "50000"
        last.append(float(row["return"]))
    expected = ", ".join(f"{value:.0f}" for value in last)
    table = result_tables.first_evidence()
    assert table.splitlines()[3].split(" | ")[2] == expected


def test_numbers_as_text():
    assert result_tables.listed([-0.4, 0.6, None, -1.5001]) == "0, 1, -, -2"
    assert result_tables.listed([-0.004, 0.456], digits=2) == "0.00, 0.46"
    assert [result_tables.p_value(p) for p in (0.0068, 3.45e-6, 4e-10)] == ["0.007", "3e-6", "4e-10"]
