import errno
import math
import os
import sys

import imageio.v2 as imageio
import numpy as np
import pytest

from envs import make_env
from errors import RunError
from tests.envs.scripted import COLOUR
from video import PlanView, VideoRecorder, check_fps, probe_video


@pytest.fixture
def env():
    env = make_env("tests.envs.scripted:Scripted-v0", render_size=64)
    env.reset()
    return env


def test_recorded_frames_come_back(env, tmp_path):
    path = tmp_path / "a.mp4"
    with VideoRecorder(path, env) as video:
        for _ in range(20):
            video.record()
        assert not path.exists()  # not before it is complete
    reader = imageio.get_reader(path)
    assert reader.get_meta_data()["fps"] == 10
    frames = [frame for frame in reader]
    assert len(frames) == 20 and frames[0].shape == (48, 64, 3)
    assert np.abs(frames[10].mean((0, 1)) - COLOUR).max() < 6
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_fast_environments_are_recorded_in_real_time_with_fewer_frames(env, tmp_path):
    env.unwrapped.metadata = env.unwrapped.metadata | {"render_fps": 100}
    with VideoRecorder(tmp_path / "a.mp4", env) as video:
        for _ in range(100):
            video.record()
    reader = imageio.get_reader(tmp_path / "a.mp4")
    assert reader.get_meta_data()["fps"] == 25 and sum(1 for _ in reader) == 25


@pytest.mark.parametrize("metadata", [{}, {"render_fps": None}])
def test_without_a_rate_there_are_30_steps_per_second(env, metadata):
    env.unwrapped.metadata = metadata
    check_fps(env, 30)
    with pytest.raises(ValueError, match="more than the 30 steps per second"):
        check_fps(env, 31)


@pytest.mark.parametrize(
    "rate, fps, of_the_file, period",
    [
        (100, 30, 30, 100 / 30),
        (100, 100, 100, 1),
        (200 / 3, 66.67, 66.67, 1),
        (200 / 3, None, 22.22, 3),
        (25, 1, 1, 25),
    ],
)
def test_every_frame_shows_the_first_step_at_its_time(env, tmp_path, rate, fps, of_the_file, period):
    shown = []
    env.unwrapped.metadata = env.unwrapped.metadata | {"render_fps": rate}
    with VideoRecorder(tmp_path / "a.mp4", env, fps) as video:
        for step in range(300):
            env.unwrapped.render = lambda step=step: shown.append(step) or np.zeros((48, 64, 3), np.uint8)
            video.record()
    data = imageio.get_reader(tmp_path / "a.mp4").get_meta_data()
    assert shown == [math.ceil(round(i * period, 6)) for i in range(math.ceil(round(300 / period, 6)))]
    assert data["fps"] == of_the_file and data["duration"] == pytest.approx(300 / rate, abs=1 / of_the_file)
    assert sum(1 for _ in imageio.get_reader(tmp_path / "a.mp4")) == len(shown)


def test_no_more_frames_than_steps(env):
    check_fps(env, None)
    check_fps(env, 10)
    with pytest.raises(ValueError, match="^10.5 frames per second are more than the 10 steps per second"):
        check_fps(env, 10.5)


def test_an_episode_that_fails_leaves_no_file(env, tmp_path):
    with pytest.raises(ZeroDivisionError), VideoRecorder(tmp_path / "a.mp4", env) as video:
        video.record()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_why_nothing_can_be_recorded(env):
    assert probe_video(env) is None
    env.unwrapped.render = lambda: 1 / 0
    assert probe_video(env) == "division by zero"
    for frame, sentence in (
        (None, "render() returned object () instead of uint8 (H, W, 3)"),
        (np.zeros((48, 64), np.uint8), "render() returned uint8 (48, 64) instead of uint8 (H, W, 3)"),
    ):
        env.unwrapped.render = lambda frame=frame: frame
        assert probe_video(env) == probe_video(env, overlay=False) == sentence


def test_the_reason_is_a_whole_sentence(env):
    """As MuJoCo says it, over several lines."""

    def render():
        raise ValueError("Image width 512 > framebuffer\nwidth 480. Either reduce the image\nwidth or specify <visual>")

    env.unwrapped.render = render
    assert probe_video(env) == "Image width 512 > framebuffer width 480"


@pytest.mark.parametrize("size, height", [(16, 16), (32, 32), (44, 44), (46, 58)])
def test_small_frames_with_an_overlay(env, tmp_path, size, height):
    env.unwrapped.render = lambda: np.zeros((size, size, 3), np.uint8)
    assert probe_video(env) is None
    with VideoRecorder(tmp_path / "a.mp4", env) as video:
        video.record(PlanView(0, 0.0, np.array([1, 0.8, 0]), 1.0, 2, 0, True))
    assert video.failure is None and next(iter(imageio.get_reader(tmp_path / "a.mp4"))).shape == (height, size, 3)


def test_odd_frames_get_another_row_and_column(env, tmp_path):
    env.unwrapped.render = lambda: np.full((47, 63, 3), COLOUR, np.uint8)
    with VideoRecorder(tmp_path / "a.mp4", env) as video:
        video.record()
    frame = next(iter(imageio.get_reader(tmp_path / "a.mp4")))
    assert frame.shape == (48, 64, 3) and np.abs(frame.mean((0, 1)) - COLOUR).max() < 6


def test_frames_of_another_size_cost_the_video(env, tmp_path):
    with VideoRecorder(tmp_path / "a.mp4", env) as video:
        video.record()
        env.unwrapped.render = lambda: np.zeros((64, 64, 3), np.uint8)
        video.record()
    assert video.failure == "render() returned (64, 64, 3) after (48, 64, 3)" and os.listdir(tmp_path) == []


def stub(tmp_path, monkeypatch, text):
    """An ffmpeg that writes to the terminal, and its file's name is its last argument."""
    path = tmp_path / "ffmpeg"
    path.write_text(f"#!{sys.executable}\nimport sys\nprint('noise', file=sys.stderr)\n{text}")
    path.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    (tmp_path / "video").mkdir()
    return tmp_path / "video" / "a.mp4"


LATE_ERROR = """
sys.stdin.buffer.read()
open(sys.argv[-1].removeprefix("file:"), "wb").write(b"moov" + bytes(5000))
sys.exit(228)
"""


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_the_exit_status_of_ffmpeg_counts(env, tmp_path, monkeypatch, capfd):
    """An index without a trailer is no video."""
    path = stub(tmp_path, monkeypatch, LATE_ERROR)
    with VideoRecorder(path, env) as video:
        video.record()
    assert video.failure == "ffmpeg failed" and os.listdir(path.parent) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_a_full_disk_is_noticed_while_the_partial_file_fills_it(env, tmp_path, monkeypatch):
    path = stub(tmp_path, monkeypatch, LATE_ERROR)

    def full(_):
        assert os.path.getsize(f"{path}.tmp.mp4") == 5004  # still there
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(RunError, match=r"cannot write .*a.mp4 \(1,048,576 bytes\): No space left"),
        VideoRecorder(path, env) as video,
    ):
        video.record()
    assert os.listdir(path.parent) == []


def test_an_ffmpeg_that_is_missing(env, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nonexistent/ffmpeg")
    assert probe_video(env) == "ffmpeg cannot be started: No such file or directory"
