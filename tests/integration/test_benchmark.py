"""benchmark.py as a process of its own, with real runs of seconds."""

import csv
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from benchmark import parse_command_line, parse_seeds, parse_setting
from errors import UsageError
from storage.run_dir import lock
from tests.helpers import benchmark, benchmark_command, rows, trajectory

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
        assert [r["simulator_step"] for r in mine] == ["250", "500"]
        assert row["return"] == logged[-1]["return"]
        assert "--chunk_size 1" in row["command"] or row["setting"] == "five"
        assert "torch==" in row["versions"]
    assert result.stdout.count("500 of 500") >= 4 and "2,000 of 2,000 steps" in result.stdout
    assert "median" in result.stdout.splitlines()[-1]


def test_finished_runs_are_not_run_again(finished):
    cwd, _ = finished
    before = {path: path.stat().st_mtime_ns for path in cwd.glob("exp/*/*") if path.is_file()}
    assert len([path for path in before if path.suffix == ".log"]) == 4
    results = {path: path.read_bytes() for path in cwd.glob("results/b/*")}
    again = benchmark(cwd, *FLAGS)
    assert again.returncode == 0 and "running" not in again.stdout
    after = {path: path.stat().st_mtime_ns for path in cwd.glob("exp/*/*") if path.is_file()}
    lock_file = cwd / "exp" / "b-logs" / "lock"
    assert {path: after[path] for path in after if path != lock_file} == {
        path: before[path] for path in before if path != lock_file
    }
    assert {path: path.read_bytes() for path in cwd.glob("results/b/*")} == results


@pytest.mark.parametrize(
    "was, now, sentence",
    [
        ("hidden_dim=32", "", "--hidden_dim is saved as 32, not 256"),
        ("num_train_steps=500", "", "--num_train_steps is saved as 500, not 1000000"),
        ("num_train_steps=500", "num_train_steps=499", "it has done 500 steps, more than --num_train_steps 499"),
    ],
)
def test_runs_of_other_flags_are_not_rows_of_the_same_table(finished, monkeypatch, was, now, sentence):
    """A flag that is no longer given would be the saved one in old runs, and the default in new ones."""
    cwd, _ = finished
    monkeypatch.chdir(cwd)
    parse_command_line(FLAGS)
    flags = [flag.replace(was, now) for flag in FLAGS]
    assert flags != FLAGS
    with pytest.raises(UsageError, match=f"/b-plain-.* is another run: {sentence}; give the same flags"):
        parse_command_line(flags)
    parse_command_line([flag.replace("num_train_steps=500", "num_train_steps=600") for flag in FLAGS])


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_benchmark_continues(tmp_path, finished):
    process = subprocess.Popen(
        benchmark_command(*FLAGS), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not any(len(path.read_text().splitlines()) > 1 for path in tmp_path.glob("exp/*/train.csv")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    acknowledged = process.stderr.readline()
    assert process.wait(timeout=60) == 143
    what = "stopping 2 runs at the next checkpoint, the end of an episode; a second signal stops at once"
    assert acknowledged == f"{what}\n" and process.stderr.read() == ""
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
    with subprocess.Popen(benchmark_command(*FLAGS), cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while not (found := list(tmp_path.glob("exp/*/train.csv"))):
            time.sleep(0.05)
            assert process.poll() is None
        process.kill()
    with lock(found[0].parent, wait=10):
        assert not (found[0].parent / "policy.pt").exists()


def test_a_closed_stdout_does_not_stop_the_runs(tmp_path):
    flags = ["--name", "b", "--envs", "Pendulum-v1", "--seeds", "1", "--set", f"s: {COMMON}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(benchmark_command(*flags), cwd=tmp_path, **pipes) as process:
        assert process.stdout.readline().endswith(", running\n")
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 0
    assert [row["seed"] for row in rows(tmp_path / "results" / "b" / "runs.csv")] == ["1"]


def test_a_summary_that_nobody_reads_is_no_error(finished):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(benchmark_command(*FLAGS), cwd=finished[0], **pipes) as process:
        process.stdout.close()  # long before the summary, the only output of a benchmark that has finished
        assert process.stderr.read() == "" and process.wait() == 0


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


def test_a_run_that_ends_early_with_status_0_has_failed(tmp_path):
    """As a library does that calls os._exit."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "quitter.py").write_text(QUITTER)
    flags = ["--name", "b", "--envs", "quitter:Quitter-v0", "--seeds", "1", "--set", f"s: {COMMON}"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "modules")}
    result = subprocess.run(benchmark_command(*flags), cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert result.stderr == "benchmark.py: error: 1 of 1 runs failed; see exp/b-logs/\n"
    assert "failed: ended with status 0 before its last step: I quit" in result.stdout
    assert os.listdir(tmp_path / "results" / "b") == []


QUITTER = """
import os
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Quitter(PendulumEnv):
    num_steps = 0

    def step(self, action):
        self.num_steps += 1
        if self.num_steps == 120:
            print("I quit", flush=True)
            os._exit(0)  # sys.exit() would be an error of the run
        return super().step(action)

gym.register("Quitter-v0", Quitter, max_episode_steps=40)
"""


def test_a_run_that_loses_its_record_does_not_cost_the_rows_of_others(tmp_path):
    (tmp_path / "modules").mkdir()
    wreck = "import glob; open(glob.glob('exp/b-s-quitter*/args.json')[0], 'w').close()"
    (tmp_path / "modules" / "quitter.py").write_text(QUITTER.replace('print("I quit", flush=True)', wreck))
    flags = ["--name", "b", "--envs", "quitter:Quitter-v0,Pendulum-v1", "--seeds", "1", "--set", f"s: {COMMON}"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "modules")}
    result = subprocess.run(benchmark_command(*flags), cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.stderr == "benchmark.py: error: 1 of 2 runs failed; see exp/b-logs/\n"
    assert "args.json is damaged: it is not JSON" in result.stdout
    assert [row["env"] for row in rows(tmp_path / "results" / "b" / "runs.csv")] == ["Pendulum-v1"]


def test_a_second_benchmark_of_the_same_name_is_refused(tmp_path):
    with lock_of_a_benchmark(tmp_path):
        result = benchmark(tmp_path, *FLAGS)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "benchmark.py: error: argument --name: another process is using exp/b-logs\n"
    assert os.listdir(tmp_path / "exp") == ["b-logs"] and os.listdir(tmp_path) == ["exp"]


def test_an_occupied_folder_of_results_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "results").write_text("precious")
    result = benchmark(tmp_path, *FLAGS)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "benchmark.py: error: results/b/runs.csv cannot be read: Not a directory\n"
    assert os.listdir(tmp_path / "exp") == ["b-logs"] and (tmp_path / "results").read_text() == "precious"


@contextmanager
def lock_of_a_benchmark(cwd):
    (cwd / "exp" / "b-logs").mkdir(parents=True)
    with lock(cwd / "exp" / "b-logs"):
        yield


@pytest.mark.parametrize(
    "names, sentence",
    [
        (
            "Pendulum-v1,cheetah_rum",
            "there is no DM Control task or Gymnasium id 'cheetah_rum'; did you mean cheetah_run?",
        ),
        ("nowhere:X-v0", "there is no module 'nowhere': it must be installed, or lie in "),
    ],
)
def test_a_misspelled_environment_is_refused_before_anything_runs(tmp_path, names, sentence):
    result = benchmark(tmp_path, *FLAGS, "--envs", names)
    assert result.returncode == 2 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"benchmark.py: error: argument --envs: {sentence}")
    assert os.listdir(tmp_path) == []


def test_spaces_between_environments_are_ignored():
    _, runs, _, _ = parse_command_line([*FLAGS, "--envs", "Pendulum-v1, cheetah_run ", "--seeds", "1"])
    assert [run.env for run in runs] == ["Pendulum-v1", "Pendulum-v1", "cheetah_run", "cheetah_run"]


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
        (["--seeds", "3-1,5"], "3-1 ends before it starts"),
        (["--seeds", "1,1"], "--seeds"),
        (["--seeds", "a"], "--seeds"),
        (["--seeds", "1-99999999999"], "--seeds"),
        (["--seeds", "1-4000000000"], "more than 1000 seeds"),
        (["--set", "x: help=true"], "cannot be given here"),
        (["--set", ""], "a setting cannot be empty"),
        (["--set", "chunk_size"], "is not flag=value"),
        (["--set", "x: chunk_size=0"], "--chunk_size"),
        (["--set", "x: frobnicate=1"], "--frobnicate"),
        (["--set", "five: chunk_size=5"], "given twice"),
        (["--set", "x: seed=5"], "argument --set: 'seed=5' cannot be given here: --seeds sets it"),
        (["--set", "x: env=cheetah_run"], "argument --set: 'env=cheetah_run' cannot"),
        (["--set", "x: experiment=y"], "argument --set: 'experiment=y' cannot"),
        (["--common", "resume=auto"], "argument --common: 'resume=auto' cannot"),
        (["--envs", "Pendulum-v1,"], "argument --envs: 'Pendulum-v1,' has an empty name"),
        (["--envs", "Pendulum-v1, Pendulum-v1"], "or a name twice"),
        (["--name", "a/b"], "--name"),
        (["--name", "."], "--name"),
        (["--name", ".."], "--name"),
        (["--name", "..."], "--name"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_a_malformed_benchmark_is_refused(changed, named, capsys):
    with pytest.raises(SystemExit) as end:
        parse_command_line([*FLAGS, *changed])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and named in errors
