import math
import os
import subprocess
import sys

import imageio.v2 as imageio
import numpy as np
import pytest

from envs import make_env
from errors import UsageError
from tests.envs.scripted import COLOUR
from video import VideoRecorder, check_fps, probe_video


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


def test_fast_environments_are_filmed_in_real_time_with_fewer_frames(env, tmp_path):
    env.unwrapped.metadata = env.unwrapped.metadata | {"render_fps": 100}
    with VideoRecorder(tmp_path / "a.mp4", env) as video:
        for _ in range(100):
            video.record()
    reader = imageio.get_reader(tmp_path / "a.mp4")
    assert reader.get_meta_data()["fps"] == 25 and sum(1 for _ in reader) == 25


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
    with pytest.raises(UsageError, match="--video_fps: 10.5 frames per second are more than the 10 steps per second"):
        check_fps(env, 10.5)


def test_an_episode_that_fails_leaves_no_file(env, tmp_path):
    with pytest.raises(ZeroDivisionError), VideoRecorder(tmp_path / "a.mp4", env) as video:
        video.record()
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_why_not_filmed(env):
    assert probe_video(env) is None
    env.unwrapped.render = lambda: 1 / 0
    assert probe_video(env) == "division by zero"


CHOOSE = "import os; from envs import rendering; rendering.choose_renderer(); print(os.environ['MUJOCO_GL'])"


def choose(**variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    result = subprocess.run([sys.executable, "-c", CHOOSE], env=environment | variables, capture_output=True, text=True)
    return result.stdout.strip(), result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_choose_renderer(renderer):
    assert choose()[0] in ("egl", "osmesa")
    # A display that is not there: on to what works without one.
    assert choose(DISPLAY=":99")[0] in ("egl", "osmesa")
    # What the user asked for is tried, and nothing else.
    assert choose(MUJOCO_GL=choose()[0])[0] == choose()[0]
    assert choose(MUJOCO_GL="glfw") == ("disabled", "")
    assert choose(MUJOCO_GL="nonsense") == ("disabled", "")
