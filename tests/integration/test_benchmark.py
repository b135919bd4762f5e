"""benchmark.py as a process of its own, with real runs of seconds."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmark import parse_command_line, parse_seeds, parse_setting
from storage.run_dir import lock
from tests.integration.test_train import ROOT, rows, trajectory

COMMON = "num_train_steps=500 num_seed_steps=100 hidden_dim=32 batch_size=16 save_video=false log_save_tb=false"
FLAGS = ["--name", "b", "--envs", "Pendulum-v1", "--seeds", "1-2", "--jobs", "2"]
FLAGS += [
    "--common",
    f"{COMMON} num_eval_episodes=1 eval_frequency=250",
    "--set",
    "plain: chunk_size=1",
    "--set",
    "five:",
]


def command(*flags):
    return [sys.executable, str(ROOT / "benchmark.py"), *flags]


def benchmark(cwd, *flags):
    return subprocess.run(command(*flags), cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    result = benchmark(cwd, *FLAGS)
    assert result.returncode == 0, result.stderr
    return cwd, result


def run_of(cwd, setting, seed):
    (directory,) = cwd.glob(f"exp/b-{setting}-Pendulum-v1-*-s{seed}-*")
    return directory


def test_results_are_those_of_the_runs(finished):
    cwd, result = finished
    summary = rows(cwd / "results" / "b" / "runs.csv")
    assert [(r["setting"], r["seed"]) for r in summary] == [
        ("plain", "1"),
        ("five", "1"),
        ("plain", "2"),
        ("five", "2"),
    ]
    evaluations = rows(cwd / "results" / "b" / "eval.csv")
    for row in summary:
        directory = run_of(cwd, row["setting"], row["seed"])
        mine = [r for r in evaluations if (r["setting"], r["seed"]) == (row["setting"], row["seed"])]
        logged = rows(directory / "eval.csv")
        assert [r["step"] for r in logged] == ["250", "500"]
        assert [{k: r[k] for k in logged[0]} for r in mine] == logged
        assert row["return"] == logged[-1]["return"]
        assert "--chunk_size 1" in row["command"] or row["setting"] == "five"
        assert "torch==" in row["versions"]
    assert result.stdout.count("500 of 500") >= 4 and "2,000 of 2,000 steps" in result.stdout
    assert "median" in result.stdout.splitlines()[-1]


def test_what_has_finished_is_not_run_again(finished):
    cwd, _ = finished
    before = {path: path.stat().st_mtime_ns for path in cwd.glob("exp/*/*") if path.is_file()}
    results = {path: path.read_bytes() for path in cwd.glob("results/b/*")}
    started = time.monotonic()
    assert benchmark(cwd, *FLAGS).returncode == 0
    assert time.monotonic() - started < 3
    assert {path: path.stat().st_mtime_ns for path in cwd.glob("exp/*/*") if path.is_file()} == before
    assert {path: path.read_bytes() for path in cwd.glob("results/b/*")} == results


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_benchmark_goes_on_where_it_was(tmp_path, finished):
    process = subprocess.Popen(command(*FLAGS), cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not any(len(path.read_text().splitlines()) > 1 for path in tmp_path.glob("exp/*/train.csv")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    directories = set(tmp_path.glob("exp/b-*-Pendulum*"))
    assert len(directories) == 2 and not list(tmp_path.glob("exp/*/policy.pt"))
    assert benchmark(tmp_path, *FLAGS).returncode == 0
    assert directories < set(tmp_path.glob("exp/b-*-Pendulum*"))
    for setting in ("plain", "five"):
        for seed in (1, 2):
            once, twice = (trajectory(run_of(cwd, setting, seed)) for cwd in (finished[0], tmp_path))
            assert once[0] == twice[0]
    results = [(cwd / "results" / "b" / "eval.csv").read_text() for cwd in (finished[0], tmp_path)]
    assert results[0] == results[1]


def test_runs_end_with_a_benchmark_that_is_killed(tmp_path):
    with subprocess.Popen(command(*FLAGS), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while not (found := list(tmp_path.glob("exp/*/train.csv"))):
            time.sleep(0.05)
            assert process.poll() is None
        process.kill()
    with lock(found[0].parent, wait=10):
        assert not (found[0].parent / "policy.pt").exists()


def test_a_run_that_fails_does_not_stop_the_others(tmp_path):
    flags = [
        "--name",
        "b",
        "--envs",
        "tests.envs.faulty:Faulty-reward-v0,Pendulum-v1",
        "--seeds",
        "1",
        "--set",
        f"s: {COMMON}",
    ]
    result = benchmark(tmp_path, *flags)
    assert result.returncode == 1
    assert result.stderr == "benchmark.py: error: 1 of 2 runs failed; see exp/b-logs/\n"
    assert "failed: train.py: error: step 75: the environment's reward is not finite" in result.stdout
    with open(tmp_path / "results" / "b" / "runs.csv", newline="") as file:
        assert [row["env"] for row in csv.DictReader(file)] == ["Pendulum-v1"]


def test_seeds():
    assert parse_seeds("1-3,7") == [1, 2, 3, 7] and parse_seeds("5") == [5]


def test_settings():
    assert parse_setting("plain: chunk_size=1") == ("plain", ["--chunk_size", "1"])
    assert parse_setting("adaptive:") == ("adaptive", [])
    assert parse_setting("save_video=false actor_betas=0.5,0.9") == (
        "save_video_false_actor_betas_0.5_0.9",
        ["--no-save_video", "--actor_betas", "0.5", "0.9"],
    )


@pytest.mark.parametrize(
    "changed, named",
    [
        (["--seeds", "3-1"], "--seeds"),
        (["--seeds", "1,1"], "--seeds"),
        (["--seeds", "a"], "--seeds"),
        (["--set", "chunk_size"], "is not flag=value"),
        (["--set", "x: chunk_size=0"], "--chunk_size"),
        (["--set", "x: frobnicate=1"], "--frobnicate"),
        (["--set", "five: chunk_size=5"], "given twice"),
        (["--name", "a/b"], "--name"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_a_malformed_benchmark_is_refused(changed, named, capsys):
    with pytest.raises(SystemExit) as end:
        parse_command_line([*FLAGS, *changed])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and named in errors
