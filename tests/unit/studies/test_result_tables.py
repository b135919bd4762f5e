"""The tables of README.md and docs/results.md are those of the files in results/."""

import csv
import re

import pytest

from studies import paired_arms, result_tables
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


def test_a_row_beside_best_is_compared_with_the_same_seed(tmp_path, monkeypatch):
    """Two of its tasks have ended, 10 and 20 above the same runs of `best`: a mean of 15, of standard error 5."""
    monkeypatch.setattr(result_tables, "ROOT", tmp_path)

    def write(folder, returned):
        (tmp_path / "results/suite100k_dev" / folder).mkdir(parents=True)
        lines = ["step,return", *(f"{step},{returned}" for step in paired_arms.STEPS)]
        (tmp_path / "results/suite100k_dev" / folder / "eval.csv").write_text("\n".join(lines))

    for i, task in enumerate(paired_arms.DEVELOPMENT):
        write(f"{task}-best-s11", 100 * i), write(f"{task}-best-s12", 999)
    write("beside/cheetah_run-batch256-s11", 10), write("beside/walker_run-batch256-s11", 120)
    lines = result_tables.beside_best().splitlines()
    assert lines[2] == "| `best` | 0 | 100 | 200 | 300 | 400 | 500 | 600 | 700 | - |"
    assert lines[3] == "| `--batch_size 256` | 10 | 120 | - | - | - | - | - | - | 15 ± 5 |"
    assert lines[4] == "| `--updates_per_step 2` | - | - | - | - | - | - | - | - | - |"
