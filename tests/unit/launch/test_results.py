"""The tables of a benchmark, from run directories of a few rows."""

import json
import os
from pathlib import Path

import pytest

from config import Config
from errors import RunError, UsageError
from launch.results import check_results, write_results
from launch.run import Run
from logger import CsvLog
from storage.run_dir import make_run_dir, record_end, record_start
from tests.helpers import rows

RUNS, EVAL = "results/b/runs.csv", "results/b/eval.csv"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def finished(seed, evaluations):
    """A `Run` whose directory is on the disk, with these rows of eval.csv."""
    config = Config(env="Pendulum-v1", experiment="b-s", seed=seed, num_train_steps=evaluations[-1]["step"])
    directory = make_run_dir(config)
    os.mkdir(f"{directory}/checkpoints")
    Path(f"{directory}/checkpoints/1.checkpoint").touch()
    record_start(directory, config, "eager")
    record_end(directory, config.num_train_steps)
    log = CsvLog(f"{directory}/eval.csv")
    for row in evaluations:
        log.write(row)
    return Run("Pendulum-v1", "s", seed, ("--seed", str(seed)), config)


def returns(path):
    return [(row["seed"], row["return"]) for row in rows(path)]


def test_a_later_call_keeps_the_rows_of_other_runs():
    first = [finished(seed, [{"step": 10, "return": -2.5, "return_1": -2.5}]) for seed in (1, 2)]
    write_results("b", first)
    before = rows(EVAL)
    written, problems = write_results(
        "b", [finished(3, [{"step": 10, "return": -1.5, "return_1": -1, "return_2": -2}])]
    )
    assert [row["seed"] for row in written] == [3] and not problems
    assert returns(RUNS) == [("1", "-2.5"), ("2", "-2.5"), ("3", "-1.5")]
    assert [row["command"] for row in rows(RUNS)] == [f"python train.py --seed {seed}" for seed in (1, 2, 3)]
    after = rows(EVAL)
    assert after[:2] == [row | {"return_2": ""} for row in before] and len(after) == 3
    assert (after[2]["return_1"], after[2]["return_2"], after[2]["simulator_step"]) == ("-1", "-2", "10")


def test_a_run_that_goes_on_replaces_its_own_rows_alone():
    runs = [finished(seed, [{"step": 10, "return": -2.5}]) for seed in (1, 2, 3)]
    write_results("b", runs)
    CsvLog(f"{runs[1].directory()}/eval.csv", last_step=10).write({"step": 20, "return": -0.5})
    write_results("b", [runs[1]])
    assert returns(RUNS) == [("1", "-2.5"), ("3", "-2.5"), ("2", "-0.5")]
    assert returns(EVAL) == [("1", "-2.5"), ("3", "-2.5"), ("2", "-2.5"), ("2", "-0.5")]
    before = [Path(path).read_bytes() for path in (RUNS, EVAL)]
    write_results("b", [runs[1]])
    assert [Path(path).read_bytes() for path in (RUNS, EVAL)] == before


@pytest.mark.parametrize(
    "content",
    [
        b"notes\n",
        b"step,return\r\n1,2\r\n",
        b"env,setting,seed\r\na,b,1,2\r\n",
        b"env,setting,seed\r\na\r\n",
        b"\xff\r\n\xff\r\n",
    ],
)
def test_a_file_that_is_no_table_is_not_replaced(content):
    os.makedirs("results/b")
    Path(EVAL).write_bytes(content)
    with pytest.raises(UsageError, match="results/b/eval.csv is not a table of benchmark.py; move it"):
        write_results("b", [finished(1, [{"step": 10, "return": 1}])])
    assert Path(EVAL).read_bytes() == content and os.listdir("results/b") == ["eval.csv"]


def test_tables_that_cannot_be_written_are_one_sentence_before_and_after_the_runs():
    os.symlink("not mounted", "results")
    sentence = r"^cannot write results/b/runs.csv: No such file or directory; [\d,]+ bytes are free$"
    with pytest.raises(UsageError, match=sentence):
        check_results("b")
    with pytest.raises(RunError, match=sentence):
        write_results("b", [finished(1, [{"step": 10, "return": 1}])])


def test_tables_that_cannot_be_read_are_refused_before_the_runs():
    check_results("b")
    assert os.listdir("results/b") == []
    os.mkdir(EVAL)
    with pytest.raises(UsageError, match="^results/b/eval.csv cannot be read: Is a directory$"):
        check_results("b")


def test_versions_and_commit_may_be_missing():
    run = finished(1, [{"step": 10, "return": 1}])
    path = Path(run.directory(), "args.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: record[name] for name in ("args", "finished")}))
    write_results("b", [run])
    (row,) = rows(RUNS)
    assert (row["return"], row["commit"], row["versions"]) == ("1", "", "")


@pytest.mark.parametrize("content", ["", "step\n10\n", "step,return\n10,\n"])
def test_a_finished_run_without_a_return_is_named(content):
    damaged, other = (finished(seed, [{"step": 10, "return": 1}]) for seed in (1, 2))
    path = f"{damaged.directory()}/eval.csv"
    Path(path).write_text(content)
    _, problems = write_results("b", [damaged, other])
    assert problems == {damaged: f"{path} is missing or has no last return, though the run has finished"}
    assert returns(RUNS) == returns(EVAL) == [("2", "1")]


def test_a_run_that_was_continued_at_another_commit_names_both():
    run = finished(1, [{"step": 10, "return": 1}])
    path = Path(run.directory(), "args.json")
    record = json.loads(path.read_text())
    starts = [
        {"git_commit": commit, "versions": {"python": "3.12", "torch": t}}
        for commit, t in (("a", "1"), ("b", "2"), ("b", "2"))
    ]
    path.write_text(json.dumps(record | starts[0] | {"resumed": starts[1:]}))
    write_results("b", [run])
    (row,) = rows(RUNS)
    assert (row["commit"], row["versions"]) == ("a b", "python==3.12 torch==1 torch==2")
