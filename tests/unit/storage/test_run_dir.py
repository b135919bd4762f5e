"""The directory of a run: which one is found, and what args.json may hold."""

import json
import os
import subprocess

import pytest

from config import Config, as_json
from errors import UsageError
from storage import run_dir as run_dir_module
from storage.run_dir import (
    find_run,
    finished_steps,
    lock,
    make_run_dir,
    read_config,
    record_end,
    record_start,
    record_update,
)

CONFIG = Config(env="cheetah_run", seed=3)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make(name, checkpoint):
    from pathlib import Path

    directory = Path("exp") / name / "checkpoints"
    directory.mkdir(parents=True)
    (directory / checkpoint).touch()


def test_the_newest_run_with_a_checkpoint_is_found():
    """A run that was killed while it wrote its first checkpoint has none: it is started anew."""
    assert find_run(CONFIG) is None
    make("sac-cheetah_run-h5-s3-20250101-000003", "000000000000.checkpoint.tmp")
    assert find_run(CONFIG) is None
    make("sac-cheetah_run-h5-s3-20250101-000001", "000000000000.checkpoint")
    make("sac-cheetah_run-h5-s3-20250101-000002", "000000000010.checkpoint")
    make("sac-cheetah_run-h5-s31-20250101-000009", "000000000010.checkpoint")
    assert find_run(CONFIG) == "exp/sac-cheetah_run-h5-s3-20250101-000002"
    make("sac-cheetah_run-h5-s3-20250101-000004", "../policy.pt")  # it has finished; its checkpoints are deleted
    assert find_run(CONFIG) == "exp/sac-cheetah_run-h5-s3-20250101-000004"


def test_two_runs_of_one_second_get_two_directories(monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "20250101-000000")
    first, second = make_run_dir(CONFIG), make_run_dir(CONFIG)
    assert first == "exp/sac-cheetah_run-h5-s3-20250101-000000" and second == f"{first}-2"


def test_the_record_of_a_run():
    directory = make_run_dir(CONFIG)
    record_start(directory, CONFIG, "eager")
    assert read_config(directory) == CONFIG and finished_steps(directory) == 0
    record_start(directory, CONFIG, "eager", resumed_at=50)
    record_end(directory, 100)
    with open(f"{directory}/args.json") as file:
        record = json.load(file)
    assert record["finished"] == 100 and [start["step"] for start in record["resumed"]] == [50]
    assert record["args"] == as_json(CONFIG) and "torch" in record["versions"]


def test_how_updates_are_computed_is_recorded_per_start():
    directory = make_run_dir(CONFIG)
    updates = []
    for step in (None, 0, 50):  # a run that is killed before its first regular checkpoint is resumed at step 0
        record_start(directory, CONFIG, f"before {step}", step)
        record_update(directory, f"after {step}")
        with open(f"{directory}/args.json") as file:
            record = json.load(file)
        updates.append([start["update"] for start in (record, *record["resumed"])])
    assert updates == [["after None"], ["after None", "after 0"], ["after None", "after 0", "after 50"]]


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    directory = make_run_dir(CONFIG)
    record_start(directory, CONFIG, "eager")
    with open(f"{directory}/args.json") as file:
        assert json.load(file)["git_commit"] is None


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds no flags"),
        ("{}", "holds no flags"),
        ('{"args": 3}', "'args' has the wrong type"),
        (json.dumps({"args": as_json(CONFIG), "versions": 1}), "'versions' has the wrong type"),
        (json.dumps({"args": as_json(CONFIG), "resumed": 1}), "'resumed' has the wrong type"),
        (json.dumps({"args": as_json(CONFIG), "resumed": [50]}), "'resumed' holds what is no start of a run"),
        (json.dumps({"args": as_json(CONFIG), "finished": "all"}), "'finished' has the wrong type"),
        (json.dumps({"args": as_json(CONFIG) | {"eval_frequency": 0}}), "--eval_frequency: 0 is not in"),
        (
            json.dumps({"args": as_json(CONFIG) | {"num_eval_episodes": "3"}}),
            "--num_eval_episodes: '3' is not a number",
        ),
        (json.dumps({"args": as_json(CONFIG) | {"actor_lr": float("nan")}}), "--actor_lr: nan is not in"),
        (json.dumps({"args": as_json(CONFIG) | {"actor_betas": [0.9]}}), "--actor_betas: "),
        (json.dumps({"args": {"env": "x"}}), "--experiment is missing"),
    ],
)
def test_a_damaged_record_is_one_sentence(text, sentence):
    directory = make_run_dir(CONFIG)
    with open(f"{directory}/args.json", "w") as file:
        file.write(text)
    with pytest.raises(UsageError) as caught:
        read_config(directory)
    assert "args.json" in str(caught.value) and sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_record_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="is not the directory of a run"):
        read_config(str(tmp_path))


def test_one_process_at_a_time():
    directory = make_run_dir(CONFIG)
    with lock(directory), pytest.raises(UsageError, match=f"another process is using {directory}"), lock(directory):
        pass
    with lock(directory):
        pass


def test_the_commit_is_that_of_the_package_and_not_of_the_working_folder(tmp_path, monkeypatch):
    """The package in a repository of its own; this process is in a folder outside it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # which may sign commits
    checkout = tmp_path / "checkout"
    module = checkout / "storage" / "run_dir.py"
    module.parent.mkdir(parents=True)
    module.touch()
    git = ["git", "-C", checkout, "-c", "user.name=a", "-c", "user.email=a"]
    for words in (["init"], ["add", "."], ["commit", "-m", "first"], ["tag", "-m", "first", "v1"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(run_dir_module, "__file__", str(module))
    assert run_dir_module._git_commit() == head
    module.write_text("# changed")
    assert run_dir_module._git_commit() == f"{head}-dirty"
