"""evaluate.py as a process of its own, on runs that train.py has just made."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from analysis import evaluation_file
from config import Config
from evaluate import main, parse_args, play_bias, play_calibration
from storage.files import write_atomically
from tests.envs.scripted import episode_return
from tests.forked import run_script
from tests.helpers import ROOT, SMALL, run_dir

SCRIPTED = ["--env", "tests.envs.scripted:Scripted-v0", "--num_seed_steps", 20, "--chunk_size", 3, *SMALL]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("trained")
    return run_dir(cwd, *SCRIPTED, "--num_train_steps", 60, "--checkpoint_frequency", 20)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def evaluate(*flags):
    return run_script(ROOT / "evaluate.py", *flags, cwd=ROOT)


def test_returns_of_a_scripted_run(run):
    result = evaluate(run, "--episodes", 4, "--confidence_threshold", 0)
    assert result.returncode == 0 and result.stderr == ""
    report = json.loads((run / "evaluation.json").read_text())
    returns = [episode_return(e) for e in range(1, 5)]
    assert report["returns"] == returns and report["return"] == np.mean(returns)
    assert report["k"] == 3 and report["step"] == 60 and report["confidence_threshold"] == 0
    assert report["return_low"] < report["return"] < report["return_high"] and report["interval"] == "95% t interval"
    table = [line.split() for line in result.stdout.splitlines()[2:6]]
    assert table == [[str(i), f"{value:.2f}", "3.00"] for i, value in enumerate(returns, start=1)]


def test_an_output_that_nobody_reads_is_one_sentence(run):
    """As in `evaluate.py RUN | head -n 3`, which reads up to the first episode."""
    command = [sys.executable, ROOT / "evaluate.py", run, "--episodes", "10000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        for _ in range(3):
            process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == "evaluate.py: error: cannot write the output: Broken pipe\n"
        assert process.wait() == 1
    report = json.loads((run / "evaluation.json").read_text())
    assert not report["complete"] and 1 <= report["episodes"] < 10_000


def test_the_same_seed_gives_the_same_episodes_and_sampling_others(tmp_path):
    directory = run_dir(tmp_path, "--env", "Pendulum-v1", "--num_train_steps", 200, "--num_seed_steps", 100, *SMALL)
    reports = {}
    for name, flags in {"a": [], "b": [], "seed": ["--seed", 1], "sample": ["--sample"]}.items():
        assert evaluate(directory, "--episodes", 2, "--output", tmp_path / name, *flags).returncode == 0
        reports[name] = json.loads((tmp_path / f"{name}.json").read_text())["returns"]
    assert reports["a"] == reports["b"]
    assert len({tuple(returns) for returns in reports.values()}) == 3


def test_a_run_that_has_not_finished_plays_its_last_checkpoint(run):
    (run / "policy.pt").unlink()
    assert evaluate(run, "--episodes", 1).returncode == 0
    before, last = sorted(run.glob("checkpoints/*.checkpoint"))
    assert json.loads((run / "evaluation.json").read_text())["step"] == int(last.stem)
    last.write_bytes(b"")
    result = evaluate(run, "--episodes", 1)
    assert result.returncode == 0 and f"warning: {last} is empty" in result.stderr
    assert json.loads((run / "evaluation-2.json").read_text())["step"] == int(before.stem)


def test_a_video_with_and_without_the_plan(run, renderer):
    """Frames of 48 rows; the plan is drawn into 12 more."""
    plain = ["--no-video_overlay", "--output", run / "plain"]
    for name, flags, height in (("evaluation-video", [], 60), ("plain", plain, 48)):
        assert evaluate(run, "--episodes", 1, "--video", *flags).returncode == 0
        frames = [frame for frame in imageio.get_reader(run / f"{name}.mp4")]
        # The first reset is the probe of the renderer.
        assert len(frames) == 4 and frames[0].shape == (height, 64, 3)


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory):
    flags = ["--env", "cheetah_run", "--num_train_steps", 10, "--num_seed_steps", 10, "--num_eval_episodes", 1, *SMALL]
    return run_dir(tmp_path_factory.mktemp("cheetah"), *flags)


def test_cameras_and_frames_per_second(cheetah, tmp_path, renderer):
    """An episode takes 10 s, whatever the frames per second."""
    first = {}
    for name, fps, flags in (
        ("side", 2, []),
        ("1", 2, ["--video_camera", 1]),
        ("back", 7.5, ["--video_camera", "back"]),
    ):
        flags += ["--episodes", 1, "--video", "--video_size", 64, "--video_fps", fps, "--output", tmp_path / name]
        result = evaluate(cheetah, *flags)
        assert result.returncode == 0 and result.stderr == ""
        reader = imageio.get_reader(tmp_path / f"{name}.mp4")
        data, frames = reader.get_meta_data(), [frame.astype(int) for frame in reader]
        assert data["fps"] == fps and data["duration"] == 10 and len(frames) == 10 * fps
        first[name] = frames[0]
    assert np.abs(first["1"] - first["back"]).mean() < 3  # the same but for compression
    assert np.abs(first["side"] - first["1"]).mean() > 20


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--video_camera", "top"], "--video_camera: cheetah_run has no camera 'top'; its cameras are 0 side, 1 back"),
        (["--video_fps", "101"], "--video_fps: 101 frames per second are more than the 100 steps per second"),
    ],
)
def test_a_bad_video_flag_is_refused(cheetah, flags, sentence):
    before = sorted(os.listdir(cheetah))
    result = evaluate(cheetah, "--episodes", 1, "--video", *flags)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and sentence in result.stderr
    assert sorted(os.listdir(cheetah)) == before


def test_a_sweep(run):
    result = evaluate(run, "--sweep", "--episodes", 2)
    assert result.returncode == 0, result.stderr
    report = json.loads((run / "sweep.json").read_text())
    rows = report["rows"]
    assert report["complete"] and report["interval"] == "95% t interval"
    assert [(r["kind"], r["setting"]) for r in rows if r["kind"] == "fixed"] == [("fixed", k) for k in (1, 2, 3)]
    assert [r["setting"] for r in rows if r["kind"] == "confidence"] == [round(0.1 * i, 1) for i in range(11)]
    lines = result.stdout.splitlines()
    assert len(lines) == len(rows) + 5
    assert lines[-3:] == [f"wrote {run}/sweep.{ending}" for ending in ("json", "png", "svg")]
    image = imageio.imread(run / "sweep.png")
    assert image.shape[0] > 400 and image.std() > 10


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_its_rows(run, number):
    """And its figure can be drawn from them."""
    command = [sys.executable, str(ROOT / "evaluate.py"), str(run), "--sweep", "--episodes", "300"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "fixed 2" not in process.stdout.readline():
        pass
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and errors == "evaluate.py: interrupted\n"
    report = json.loads((run / "sweep.json").read_text())
    assert report["complete"] is False and [row["setting"] for row in report["rows"]][:2] == [1, 2]
    assert out.splitlines()[-1] == f"wrote {run}/sweep.json, incomplete"
    evaluation_file.draw([str(run / "sweep.json")])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_stop_the_writing(run, monkeypatch, number):
    def play(*_):
        yield 1.0, [1]
        os.kill(os.getpid(), number)

    def interrupted_write(*args):
        os.kill(os.getpid(), number)
        write_atomically(*args)

    monkeypatch.setenv("MUJOCO_GL", "disabled")  # main() sets it, for this process: it is restored after the test
    monkeypatch.setattr("rollout.play_each", play)
    monkeypatch.setattr("evaluate.write_atomically", interrupted_write)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", str(run)])
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert end.value.code == 128 + number
    assert json.loads((run / "evaluation.json").read_text())["complete"] is False


def test_default_names_are_numbered_and_named_files_are_not_replaced(run):
    for name in ("evaluation.json", "evaluation-2.json"):
        result = evaluate(run, "--episodes", 1)
        assert result.returncode == 0 and result.stdout.splitlines()[-1] == f"wrote {run}/{name}"
    result = evaluate(run, "--episodes", 1, "--output", run / "evaluation")
    assert result.returncode == 2 and "evaluation.json exists" in result.stderr
    (interval,) = [line for line in (run / "evaluation.json").read_text().splitlines() if "return_low" in line]
    assert "null" in interval  # of one episode


def test_a_new_folder_is_created_for_the_output(run, tmp_path):
    result = evaluate(run, "--episodes", 1, "--output", tmp_path / "new" / "folder" / "x")
    assert result.returncode == 0 and (tmp_path / "new" / "folder" / "x.json").exists()


def test_where_nothing_can_be_written_nothing_is_played(run, monkeypatch):
    for output in ("/proc/self/x", str(run / "args.json" / "x")):
        result = evaluate(run, "--output", output)
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.count("\n") == 1 and f"cannot write {output}.json" in result.stderr


def test_a_reward_that_is_not_finite_keeps_the_episodes_before(tmp_path):
    """The environment breaks in its third episode: the first two are kept."""
    flags = ["--env", "tests.envs.faulty:Faulty-reward-v0", "--num_train_steps", 60, "--num_seed_steps", 60]
    run = run_dir(tmp_path, *flags, "--eval_frequency", 60, "--num_eval_episodes", 1, *SMALL)
    result = evaluate(run, "--episodes", 4)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "episode 3, step 15: the environment's reward is not finite: nan" in result.stderr
    report = json.loads((run / "evaluation.json").read_text())
    assert report["complete"] is False and report["episodes"] == len(report["returns"]) == 2
    assert report["interval"] == "95% t interval"


def damage_policy(run):
    (run / "policy.pt").write_bytes((run / "policy.pt").read_bytes()[:-50])


def another_task(run):
    policy = torch.load(run / "policy.pt", weights_only=True)
    policy["args"]["env"] = "cheetah_run"
    torch.save(policy, run / "policy.pt")


def another_size(run):
    policy = torch.load(run / "policy.pt", weights_only=True)
    policy["actor"] = {name: weight[..., :1] if weight.dim() else weight for name, weight in policy["actor"].items()}
    torch.save(policy, run / "policy.pt")


def another_version(run):
    record = json.loads((run / "args.json").read_text())
    del record["args"]["confidence_margin"]
    (run / "args.json").write_text(json.dumps(record))


def unfinished(run):
    (run / "policy.pt").unlink()
    shutil.rmtree(run / "checkpoints")


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (shutil.rmtree, "is not the directory of a run"),
        (lambda run: (run / "args.json").write_text("{"), "args.json is damaged"),
        (unfinished, "has not finished and cannot be played"),
        (damage_policy, "policy.pt is damaged"),
        (another_task, "--env is saved as cheetah_run, not tests.envs.scripted:Scripted-v0"),
        (another_size, "the policy does not fit"),
        (another_version, "--confidence_margin is missing"),
    ],
)
def test_a_damaged_run_is_refused(run, damage, sentence):
    damage(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = evaluate(run, "--episodes", 1)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and sentence in result.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--episodes", "0"],
        ["--seed", "1e20"],
        ["--confidence_threshold", "nan"],
        ["--sweep", "--video"],
        ["--calibration", "--sweep"],
        ["--calibration", "--bias"],
        ["--calibration", "--pairs", "9"],
        ["--horizon", "0"],
        ["--video_size", "33"],
        ["-x"],
    ],
)
def test_bad_flags(flags, capsys):
    with pytest.raises(SystemExit) as end:
        parse_args(["exp/x", *flags])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "flags, way_out",
    [
        (["--pairs", "100"], "--pairs: only with --calibration"),
        (["--sweep", "--horizon", "3"], "--horizon: only with --calibration or --bias"),
        (["--calibration", "--states", "3"], "--states: only with --bias"),
        (["--bias", "--confidence_threshold", "0"], "--confidence_threshold: not with --bias"),
        (["--video_fps", "5"], "--video_fps: only with --video"),
        (["--sweep", "--video_camera", "1"], "--video_camera: only with --video"),
        (["--calibration", "--video_size", "64"], "--video_size: only with --video"),
        (["--no-video_overlay"], "--video_overlay: only with --video"),
        (["--sweep", "--confidence_threshold", "0"], "--confidence_threshold: not with --sweep"),
        (["--calibration", "--sample"], "--sample: not with --calibration"),
        (["--calibration", "--no-sample"], "--sample: not with --calibration"),
    ],
)
def test_a_flag_without_effect_is_refused(flags, way_out, capsys):
    with pytest.raises(SystemExit) as end:
        parse_args(["exp/x", *flags])
    assert end.value.code == 2 and f"argument {way_out} " in capsys.readouterr().err


def test_defaults_of_flags_that_belong_to_a_mode():
    args = parse_args(["exp/x", "--calibration"])
    assert (args.pairs, args.horizon, args.sample, args.mode) == (2000, 50, None, "calibration")
    args = parse_args(["exp/x", "--bias"])
    assert (args.states, args.horizon, args.mode) == (200, 500, "bias")
    args = parse_args(["exp/x", "--video", "--sample"])
    assert (args.video_size, args.video_overlay, args.sample, args.mode) == (256, True, True, "video")


def test_a_calibration(tmp_path):
    flags = ["--env", "Gusty-v0", "--num_train_steps", 200, "--num_seed_steps", 50, *SMALL]
    run = run_dir(tmp_path, *flags, "--chunk_size", 3, "--num_eval_episodes", 1)
    result = evaluate(run, "--calibration", "--episodes", 3, "--pairs", 31, "--horizon", 4)
    assert result.returncode == 0 and result.stderr == ""
    report = json.loads((run / "calibration.json").read_text())
    table = list(csv.DictReader((run / "calibration.csv").open()))
    assert [row["episode"] for row in table] == ["1"] * 11 + ["2"] * 10 + ["3"] * 10
    assert report["num_pairs"] == 31 and report["horizon"] == 4 and report["sample"] is True
    realised = np.array([[float(row[f"realised_{i}"]) for i in (1, 2)] for row in table])
    assert report["realised"]["mean"] == pytest.approx(realised.mean()) and (np.ptp(realised, axis=1) > 0).mean() > 0.3
    assert len({row["predicted"] for row in table}) == 31 and {row["position"] for row in table} == {"2", "3"}
    assert f"31 pairs, realised advantage {realised.mean():10.4f}" in result.stdout
    assert imageio.imread(run / "calibration.png").std() > 10 and (run / "calibration.svg").exists()


def test_a_calibration_needs_critics_and_plans(run, tmp_path):
    plain = run_dir(tmp_path, *SCRIPTED, "--num_train_steps", 60, "--chunk_size", 1)
    shutil.rmtree(run / "checkpoints")
    for directory, sentence in ((run, "has no critics"), (plain, "has plans of one action")):
        result = evaluate(directory, "--calibration")
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and sentence in result.stderr
        assert not list(directory.glob("calibration.*"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])  # the latter in an environment of the user's
def test_an_interrupted_calibration_keeps_its_pairs(tmp_path, monkeypatch, error):
    pair = {"episode": 1, "time": 3, "position": 2, "confidence": 0.5, "predicted": 0.1, "realised": [0.2, 0.3]}

    def two_pairs(*_):
        yield pair
        yield pair
        raise error

    monkeypatch.setattr("analysis.calibration.pairs", two_pairs)
    args = parse_args([str(tmp_path), "--calibration"])
    result = {"confidence_threshold": 0.5}
    with pytest.raises(error):
        play_calibration(result, args, str(tmp_path / "a"), None, None, Config(env="x"), [1])
    assert (result["num_pairs"], result["episodes"]) == (2, 1)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_a_bias_table(tmp_path):
    flags = ["--env", "Gusty-v0", "--num_train_steps", 200, "--num_seed_steps", 50, *SMALL]
    run = run_dir(tmp_path, *flags, "--chunk_size", 3, "--num_eval_episodes", 1, "--normalize_observations")
    for name in ("bias", "bias-2"):  # a second table replaces nothing
        result = evaluate(run, "--bias", "--episodes", 3, "--states", 7, "--horizon", 10)
        assert result.returncode == 0 and result.stderr == ""
        report = json.loads((run / f"{name}.json").read_text())
        assert report["complete"] and report["num_states"] == 7 and report["sample"] is True
        assert report["tail_weight"] == pytest.approx(0.99**10)
        table = list(csv.DictReader((run / f"{name}.csv").open()))
        assert [row["episode"] for row in table] == ["1"] * 3 + ["2"] * 2 + ["3"] * 2
        for value in report["values"]:
            bias = [float(row[value["name"]]) - float(row[f"{value['name']}_realised"]) for row in table]
            assert value["bias"] == pytest.approx(np.mean(bias)) and np.std(bias) > 0
        printed = [line.split() for line in result.stdout.splitlines() if line.split()[0] in ("q_1", "q_2", "q_3", "v")]
        assert [float(line[3]) for line in printed] == [round(value["bias"], 3) for value in report["values"]]


def test_a_bias_table_needs_critics_and_long_branches(run):
    before = sorted(os.listdir(run))
    result = evaluate(run, "--bias", "--horizon", 2)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "plans of 3 actions" in result.stderr
    shutil.rmtree(run / "checkpoints")
    result = evaluate(run, "--bias")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "has no critics" in result.stderr
    assert sorted([*os.listdir(run), "checkpoints"]) == before


def test_an_interrupted_bias_table_keeps_its_states(tmp_path, monkeypatch, make_agent):
    row = {"episode": 1, "time": 3, "k": 1, "tail_weight": 0.0}
    row |= {f"{name}{part}": 1.0 for name in ("q_1", "v") for part in ("", "_min", "_realised")}

    def two_states(*_):
        yield row
        yield row
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.bias.states", two_states)
    result, agent = {"confidence_threshold": 0.5}, make_agent(3, 2, "--chunk_size", "1")
    args = parse_args([str(tmp_path), "--bias"])
    with pytest.raises(KeyboardInterrupt):
        play_bias(result, args, str(tmp_path / "a"), agent, None, agent.config, [1])
    assert (result["num_states"], result["episodes"]) == (2, 1)
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3
