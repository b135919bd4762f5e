"""Kills, signals, full disks and damaged files: real processes, signals and limits."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import torch

from config import Config
from envs import make_env
from replay_buffer import ReplayBuffer
from storage.checkpoint import Checkpoints
from tests.forked import start_script
from tests.helpers import ROOT, SMALL, assert_equal, rows, run_dir, train, trajectory

TRAIN = [sys.executable, str(ROOT / "train.py")]
PENDULUM = ["--env", "Pendulum-v1", "--num_seed_steps", "100", "--num_eval_episodes", "1", *SMALL]
RESUMED = [
    *PENDULUM,
    "--updates_per_step",
    "0.25",
    "--num_train_steps",
    "1700",
    "--eval_frequency",
    "500",
    "--checkpoint_frequency",
    "200",
]

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and limits")


def start(cwd, *flags, **options):
    """A real start of train.py: for what it prints until its very end, and before it has imported everything."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*TRAIN, *map(str, flags)], cwd=cwd, **pipes | options)


def start_fork(cwd, *flags):
    """A started `multiprocessing.Process`; it writes cwd/stdout and cwd/stderr."""
    return start_script(ROOT / "train.py", *flags, cwd=cwd, outputs=[cwd / "stdout", cwd / "stderr"])


def send(process, number):
    """Send a signal to a `multiprocessing.Process`, which may have ended."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def wait_for(condition, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def the_run(cwd):
    (directory,) = cwd.glob("exp/*")
    return directory


def num_rows(cwd):
    return sum(len(path.read_text().splitlines()) - 1 for path in cwd.glob("exp/*/train.csv"))


def checkpoint_steps(cwd):
    return sorted(int(path.stem) for path in cwd.glob("exp/*/checkpoints/*.checkpoint"))


def assert_same_runs(first, second):
    """Weights, train.csv but its timing columns, and eval.csv: bit for bit."""
    assert_equal(trajectory(first), trajectory(second))
    assert (first / "eval.csv").read_text() == (second / "eval.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_dir(tmp_path_factory.mktemp("undisturbed"), *RESUMED)


def kill_and_resume(cwd, flags, pauses):
    """Run with `--resume auto`, killed after each pause, counted from the first sign of life; then to the end."""
    kills = 0
    for pause in pauses:
        before = num_rows(cwd)
        process = start_fork(cwd, *flags, "--resume", "auto")
        wait_for(lambda process=process, before=before: not process.is_alive() or num_rows(cwd) > before)
        time.sleep(pause)
        kills += process.is_alive()
        process.kill()
        process.join()
    result = train(cwd, *flags, "--resume", "auto")
    assert result.returncode == 0, result.stderr
    return kills


@posix
def test_killed_at_random_instants(tmp_path, undisturbed):
    rng = random.Random(1)
    kills = kill_and_resume(tmp_path, RESUMED, [rng.uniform(0, 0.5) for _ in range(3)])
    assert kills == 3
    assert_same_runs(the_run(tmp_path), undisturbed)


@posix
@pytest.mark.faults
def test_killed_twenty_times_with_compiled_gradients(tmp_path):
    """Several thousand steps of the default algorithm on a DM Control task, compilation in the middle."""
    flags = ["--env", "cheetah_run", "--num_train_steps", 20_500, "--num_seed_steps", 1000, "--eval_frequency", 4000]
    flags += ["--num_eval_episodes", 1, "--checkpoint_frequency", 500, "--compile", "on", *SMALL]
    (tmp_path / "once").mkdir(), (tmp_path / "often").mkdir()
    once = run_dir(tmp_path / "once", *flags)
    rng, kills = random.Random(2), 0
    while kills < 20 and not list((tmp_path / "often").glob("exp/*/policy.pt")):
        process = start(tmp_path / "often", *flags, "--resume", "auto")
        wait_for(lambda process=process: process.poll() is not None or "run directory" in process.stdout.readline())
        time.sleep(rng.uniform(0.5, 12))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    result = train(tmp_path / "often", *flags, "--resume", "auto")
    assert result.returncode == 0, result.stderr
    assert kills == 20
    assert_same_runs(the_run(tmp_path / "often"), once)


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_at_the_end_of_the_episode(tmp_path, undisturbed, number, status):
    process = start(tmp_path, *RESUMED, "--checkpoint_frequency", 100_000)
    wait_for(lambda: num_rows(tmp_path) >= 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert errors == "stopping at the end of the episode; a second signal stops at once\n"
    step = int(rows(the_run(tmp_path) / "train.csv")[-1]["step"])
    assert checkpoint_steps(tmp_path) == [0, step] and 600 <= step < 1700
    result = train(tmp_path, "--resume", the_run(tmp_path).relative_to(tmp_path))
    assert result.returncode == 0 and f"continued from step {step}" in result.stdout
    assert_same_runs(the_run(tmp_path), undisturbed)


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(tmp_path, undisturbed, number):
    """The episode cannot end between the two: its environment is held in a step."""
    (tmp_path / "hold").touch()
    flags = [*RESUMED, "--env", "tests.envs.slow:Held-v0"]
    process = start_fork(tmp_path, *flags)
    try:
        wait_for((tmp_path / "held").exists)
        assert checkpoint_steps(tmp_path) == [400, 600]
        send(process, number)
        wait_for(lambda: (tmp_path / "stderr").read_text())
        send(process, number)
        process.join(10)
    finally:
        process.kill()  # if no signal did
        process.join()
    assert process.exitcode == -number
    assert checkpoint_steps(tmp_path) == [400, 600]
    (tmp_path / "hold").unlink()
    assert train(tmp_path, *flags, "--resume", "auto").returncode == 0
    assert_same_runs(the_run(tmp_path), undisturbed)


def limited(size):
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@posix
@pytest.mark.parametrize(
    "size, flags, named",
    [
        (20_000, ["--checkpoint_frequency", "200"], r"checkpoints/\S+ \([\d,]+ bytes\)"),
        (4000, ["--checkpoint_frequency", "0", "--log_frequency", "1"], r"train\.csv"),
        (9000, ["--checkpoint_frequency", "0", "--log_save_tb"], r"events\.out\.tfevents\.\*"),
    ],
)
def test_a_full_disk(tmp_path, size, flags, named):
    """Nothing may be longer than `size` bytes: checkpoint, CSV, TensorBoard."""
    flags = [*PENDULUM, "--num_train_steps", "20000", "--num_seed_steps", "19000", "--eval_frequency", "20000", *flags]
    process = start(tmp_path, *flags, preexec_fn=limited(size))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    (sentence,) = errors.splitlines()
    assert re.search(rf"cannot write exp/[^/]+/{named}: File too large", sentence)
    assert re.search(r"; [\d,]+ bytes are free$", sentence)


@posix
def test_a_full_disk_under_a_video(tmp_path, renderer):
    flags = ["--env", "cartpole_swingup", "--action_repeat", "5", "--num_train_steps", "20", "--num_seed_steps", "20"]
    flags += [*SMALL, "--save_video", "--eval_frequency", "10", "--num_eval_episodes", "1"]
    process = start(tmp_path, *flags, "--checkpoint_frequency", "0", preexec_fn=limited(12_000))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert re.search(r"video/10\.mp4 \(1,048,576 bytes\): File too large", errors), errors
    assert os.listdir(the_run(tmp_path) / "video") == []


def test_a_directory_that_cannot_be_made_is_refused_at_once(tmp_path):
    for name, make in {
        "a file in its place": lambda cwd: (cwd / "exp").write_text(""),
        "a parent that is missing": lambda cwd: (cwd / "exp").symlink_to("/nowhere/exp"),
        "read-only": lambda cwd: (cwd / "exp").symlink_to("/proc/self"),
    }.items():
        cwd = tmp_path / name
        cwd.mkdir()
        make(cwd)
        result = train(cwd, *PENDULUM)
        assert result.returncode == 2 and result.stdout == "", name
        (sentence,) = result.stderr.splitlines()
        assert "cannot create exp/" in sentence


@pytest.fixture(scope="module")
def interrupted_once(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("interrupted")
    process = start_fork(cwd, *RESUMED)
    wait_for(lambda: num_rows(cwd) >= 4)
    send(process, signal.SIGTERM)
    process.join()
    return cwd


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A copy of a run that was stopped after some episodes."""
    return shutil.copytree(interrupted_once, tmp_path, dirs_exist_ok=True)


@posix
def test_resuming(interrupted, undisturbed):
    """What is refused, what may change, and what happens to the logs."""
    directory = the_run(interrupted)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    differing = ["--env", "MountainCarContinuous-v0", "--chunk_size", "3", "--hidden_dim", "33", "--critic_lr", "1e-2"]
    result = train(interrupted, "--resume", directory, *differing)
    assert result.returncode == 2
    (sentence,) = result.stderr.splitlines()
    for difference in (
        "--env is saved as Pendulum-v1, not MountainCarContinuous-v0",
        "--chunk_size is saved as 5, not 3",
        "--hidden_dim is saved as 32, not 33",
        f"--critic_lr is saved as {Config().critic_lr}, not 0.01",
    ):
        assert difference in sentence
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before

    # Rows after the checkpoint, as a killed run leaves them, the last one half-written.
    with open(directory / "train.csv", "a") as file:
        line = (directory / "train.csv").read_text().splitlines()[-1]
        file.write(line.replace(line.split(",")[0], "1650", 1) + "\r\n" + line[:3])
    assert train(interrupted, "--resume", directory, "--num_train_steps", 1800, "--log_save_tb").returncode == 0
    record = json.loads((directory / "args.json").read_text())
    assert record["finished"] == 1800 and record["args"]["num_train_steps"] == 1800
    assert [entry["step"] for entry in record["resumed"]] == [checkpoint_steps_of(before)]
    assert [int(r["step"]) for r in rows(directory / "train.csv")] == list(range(200, 1801, 200))
    assert trajectory(directory)[0][:8] == trajectory(undisturbed)[0]  # of 1,700 steps
    assert [r["step"] for r in rows(directory / "eval.csv")] == ["500", "1000", "1500", "1800"]

    again = train(interrupted, *RESUMED, "--num_train_steps", 1800, "--resume", "auto")
    assert again.returncode == 0 and "has finished its 1800 steps" in again.stdout


def checkpoint_steps_of(files):
    return max(int(path.stem) for path in files if path.suffix == ".checkpoint")


@posix
def test_a_damaged_checkpoint_gives_a_warning(interrupted, undisturbed):
    directory = the_run(interrupted)
    newest = max(directory.glob("checkpoints/*.checkpoint"))
    newest.write_bytes(newest.read_bytes()[:-10])
    result = train(interrupted, "--resume", directory)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1 and newest.name in result.stderr and "it is incomplete" in result.stderr
    assert_same_runs(directory, undisturbed)


@posix
def test_csv_files_that_lost_rows_or_are_damaged(interrupted):
    """Damaged ones are refused before anything changes; lost rows give a warning and the run goes on."""
    directory = the_run(interrupted)
    whole = (directory / "train.csv").read_bytes()
    (directory / "train.csv").write_bytes(b"\xff\x00\n" + whole)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    result = train(interrupted, "--resume", directory)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "train.csv is damaged" in result.stderr
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    (directory / "train.csv").write_bytes(whole.splitlines(keepends=True)[0])
    lost = len(whole.splitlines()) - 1
    result = train(interrupted, "--resume", directory)
    assert result.returncode == 0 and f"{lost} are lost" in result.stderr and result.stderr.count("\n") == 1


@posix
def test_without_any_checkpoint_there_is_nothing_to_resume(interrupted):
    directory = the_run(interrupted)
    shutil.rmtree(directory / "checkpoints")
    result = train(interrupted, "--resume", directory)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "checkpoints holds no checkpoint" in result.stderr


@posix
def test_a_run_cannot_be_made_shorter_than_it_is(interrupted):
    """Its policy would be labelled with a step that it is not of."""
    directory = the_run(interrupted)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    step = checkpoint_steps(interrupted)[-1]
    result = train(interrupted, "--resume", directory, "--num_train_steps", step - 100)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert f"argument --num_train_steps: {step - 100} is less than the {step} steps" in result.stderr
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


@posix
def test_a_run_that_was_killed_in_its_first_checkpoint_is_started_anew(interrupted):
    """What kill -9 before the first rename leaves: a scratch file, and no checkpoint."""
    directory = the_run(interrupted)
    for path in directory.glob("checkpoints/*"):
        path.unlink()
    (directory / "checkpoints" / "000000000000.checkpoint.tmp").touch()
    flags = [*PENDULUM, "--num_train_steps", 200, "--eval_frequency", 200]
    assert train(interrupted, *flags, "--resume", "auto").returncode == 0
    assert len(list(interrupted.glob("exp/*"))) == 2 and not (directory / "policy.pt").exists()


@posix
@pytest.mark.parametrize("name, value", [("eval_frequency", 0), ("num_eval_episodes", 0), ("log_frequency", "often")])
def test_a_value_in_args_json_that_no_flag_can_have_is_refused(interrupted, name, value):
    path = the_run(interrupted) / "args.json"
    record = json.loads(path.read_text())
    record["args"][name] = value
    path.write_text(text := json.dumps(record))
    result = train(interrupted, "--resume", the_run(interrupted))
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "args.json" in result.stderr and f"--{name}: " in result.stderr
    assert path.read_text() == text


def test_without_git_a_run_starts(tmp_path):
    flags = [*PENDULUM, "--num_train_steps", 100, "--eval_frequency", 100]
    assert train(tmp_path, *flags, PATH="/nowhere").returncode == 0
    assert json.loads((the_run(tmp_path) / "args.json").read_text())["git_commit"] is None


@posix
def test_ctrl_c_in_the_first_seconds_leaves_no_traceback(tmp_path):
    for pause in (0.3, 1.0, 2.0):
        process = start(tmp_path, *PENDULUM, "--num_train_steps", "100000", "--num_seed_steps", "90000")
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in errors


@posix
def test_flags_that_were_edited_are_noticed(interrupted):
    path = the_run(interrupted) / "args.json"
    record = json.loads(path.read_text())
    record["args"]["hidden_dim"] = 16
    path.write_text(json.dumps(record))
    result = train(interrupted, "--resume", the_run(interrupted))
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "has other flags than the checkpoint beside it: --hidden_dim is saved as 32, not 16" in result.stderr


@posix
def test_a_checkpoint_of_a_gpu_loads_on_a_cpu(interrupted):
    directory = the_run(interrupted)
    buffer = ReplayBuffer(3, 1, 2 * 1700 + 1, 5, 0.99, False, "cpu", np.random.default_rng())
    checkpoints = Checkpoints(directory)
    step, state, _ = checkpoints.load(buffer)
    state["agent"] |= {"device": "cuda", "plan_generator": torch.zeros(16, dtype=torch.uint8)}
    state["agent"]["update_generator"] = state["agent"]["plan_generator"]
    state["conditions"]["device"] = "cuda"
    checkpoints.save(step, state, buffer)
    result = train(interrupted, "--resume", directory)
    assert result.returncode == 0
    (warning,) = result.stderr.splitlines()
    assert "device was cuda and is cpu: the run will not continue bit for bit" in warning


def test_another_number_of_threads_gives_a_warning(tmp_path):
    flags = [*PENDULUM, "--num_train_steps", 200, "--eval_frequency", 200]
    assert train(tmp_path, *flags).returncode == 0
    # One step more: two threads wait for each other where other processes use the cores.
    result = train(tmp_path, *flags, "--resume", "auto", "--num_train_steps", 201, "--num_threads", 2)
    assert result.returncode == 0
    assert "num_threads was 1 and is 2: the run will not continue bit for bit" in result.stderr


@pytest.mark.parametrize(
    "fault, cause",
    [
        ("reward", r"step 75: the environment's reward is not finite: nan"),
        ("observation", r"step 75: the environment's observation is not finite: \[.*inf"),
        ("loss", r"step \d+: training has diverged: critic_loss is inf"),
    ],
)
def test_what_is_not_finite_stops_the_run(tmp_path, fault, cause):
    flags = ["--env", f"tests.envs.faulty:Faulty-{fault}-v0", "--num_train_steps", 500, "--num_seed_steps", 40, *SMALL]
    result = train(tmp_path, *flags, "--log_frequency", 1, "--checkpoint_frequency", 30)
    assert result.returncode == 1
    (sentence,) = result.stderr.splitlines()
    assert re.search(cause, sentence)
    buffer = ReplayBuffer(3, 2, 1001, 5, 0.99, False, "cpu", np.random.default_rng())
    step, state, _ = Checkpoints(the_run(tmp_path)).load(buffer)
    assert step == 60
    assert np.isfinite(buffer.rows).all()
    assert all(torch.isfinite(weight).all() for weight in state["agent"]["critic"].values())


def test_an_action_that_is_not_finite_stops_the_run(tmp_path):
    """Between two logged updates the policy itself may break first."""
    flags = ["--env", "tests.envs.faulty:Faulty-loss-v0", "--num_train_steps", 5000, "--num_seed_steps", 40, *SMALL]
    result = train(tmp_path, *flags, "--log_frequency", 100_000, "--checkpoint_frequency", 30)
    assert result.returncode == 1
    assert re.search(r"step \d+: (the policy's action is not finite|training has diverged: not all)", result.stderr)
    assert checkpoint_steps(tmp_path)[-1] < 5000


def test_a_simulation_that_diverges_ends_the_episode():
    env = make_env("cheetah_run")
    first, _ = env.reset(seed=0)
    before, *_ = env.step(np.zeros(6))
    env.unwrapped._env.physics.data.qvel[:] = 1e20
    obs, reward, terminated, truncated, info = env.step(np.zeros(6))
    assert np.array_equal(obs, before) and reward == 0.0 and terminated and not truncated and info["diverged"]
    assert np.isfinite(env.reset()[0]).all() and np.isfinite(env.step(np.zeros(6))[0]).all()


def test_more_memory_than_there_is(tmp_path):
    flags = ["--env", "Pendulum-v1", "--num_train_steps", "1e12", "--replay_buffer_capacity", "1e12"]
    result = train(tmp_path, *flags, "--no-save_video")
    assert result.returncode == 2
    (sentence,) = result.stderr.splitlines()
    assert re.search(r"--replay_buffer_capacity: .* take 28,000.0 GB of memory; there are [\d.,]+ GB", sentence)
    assert os.listdir(tmp_path) == []


def test_a_chunk_longer_than_an_episode(tmp_path):
    for name, longest in (("Pendulum-v1", 200), ("cheetah_run", 1000)):
        result = train(tmp_path, "--env", name, "--chunk_size", longest + 1, "--no-save_video")
        assert result.returncode == 2 and result.stderr.count("\n") == 1
        assert f"--chunk_size: {longest + 1} is longer than an episode of {longest} steps" in result.stderr
    assert os.listdir(tmp_path) == []


def test_cuda_without_cuda(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    result = train(tmp_path, "--env", "Pendulum-v1", "--device", "cuda", "--no-save_video")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "--device: cuda is not usable" in result.stderr
    assert os.listdir(tmp_path) == []


@posix
def test_the_second_run_on_a_directory_is_refused(tmp_path, undisturbed):
    process = start_fork(tmp_path, *RESUMED)
    wait_for(lambda: num_rows(tmp_path) >= 1)
    directory = the_run(tmp_path)
    send(process, signal.SIGSTOP)
    try:
        results = [train(tmp_path, *flags, "--resume", which) for flags, which in (([], directory), (RESUMED, "auto"))]
    finally:
        send(process, signal.SIGCONT)  # pytest waits for it at its end
    for result in results:
        assert result.returncode == 2
        (sentence,) = result.stderr.splitlines()
        assert "another process is using exp/" in sentence or f"another process is using {directory}" in sentence
    process.join()
    assert process.exitcode == 0
    assert_same_runs(directory, undisturbed)


@posix
def test_a_closed_stdout_does_not_stop_the_run(tmp_path, undisturbed):
    process = start(tmp_path, *RESUMED)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0
    assert_same_runs(the_run(tmp_path), undisturbed)


FFMPEG = """#!{python}
import os, sys
if "/video/" not in sys.argv[-1]:  # not a video of the run
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
sys.stdin.buffer.read({bytes_read})
"""


@posix
@pytest.mark.parametrize("bytes_read", [0, 20_000, 10_000_000])
def test_an_ffmpeg_that_fails_costs_the_video_alone(tmp_path, bytes_read):
    """At once, in mid-video, or without having written anything at the end."""
    import imageio_ffmpeg

    stub = tmp_path / "ffmpeg"
    stub.write_text(FFMPEG.format(python=sys.executable, real=imageio_ffmpeg.get_ffmpeg_exe(), bytes_read=bytes_read))
    stub.chmod(0o755)
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    flags = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", 40, "--num_seed_steps", 40, *SMALL]
    flags += ["--eval_frequency", 10, "--num_eval_episodes", 1, "--save_video"]
    result = train(cwd, *flags, IMAGEIO_FFMPEG_EXE=str(stub))
    assert result.returncode == 0, result.stderr
    assert result.stderr == "warning: no video was written: ffmpeg failed\n"
    assert os.listdir(the_run(cwd) / "video") == []
    assert len(rows(the_run(cwd) / "eval.csv")) == 4


def test_no_ffmpeg(tmp_path):
    flags = ["--env", "tests.envs.scripted:Scripted-v0", "--num_train_steps", 20, "--num_seed_steps", 20, *SMALL]
    result = train(tmp_path, *flags, "--save_video", IMAGEIO_FFMPEG_EXE="/nonexistent/ffmpeg")
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1 and "training without video" in result.stderr
