"""Evaluation episodes as mp4, on machines with and without a display."""

import importlib
import math
import os
import subprocess
import sys
import tempfile

MAX_FPS = 25  # software rendering is slow: more frames would cost more than the training between two videos

PROBE = """
from dm_control import mujoco
physics = mujoco.Physics.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1"/></worldbody></mujoco>')
assert physics.render(32, 32).any()
"""


def choose_renderer():
    """Set MUJOCO_GL to a backend that renders here; call it before dm_control is imported.

    Each candidate is tried in a process of its own, because a backend that fails can take the process with it.
    A MUJOCO_GL that is already set is the only candidate.

    If none renders, rendering is disabled.
    """
    has_display = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    headless = [] if sys.platform in ("darwin", "win32") else ["egl", "osmesa"]
    candidates = [os.environ.get("MUJOCO_GL")]
    if not candidates[0]:
        candidates = ["glfw", *headless] if has_display else headless
    for backend in candidates:
        environment = os.environ | {"MUJOCO_GL": backend}
        if subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True).returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            # PyTorch's optimizers load Triton where it is installed, whose LLVM crashes the process if Mesa's software
            # renderer has loaded another one before: Triton first.
            importlib.import_module("torch._dynamo")
            return
    disable_rendering()


def disable_rendering():
    """Keep dm_control from looking for a display that is not needed."""
    os.environ["MUJOCO_GL"] = "disabled"


def why_not_filmed(env):
    """Films one frame for nobody: None if that works, else what was in the way, in a sentence."""
    try:
        env.reset(seed=0)
        with tempfile.TemporaryDirectory() as scratch, VideoRecorder(os.path.join(scratch, "probe.mp4"), env) as video:
            video.record()
    except Exception as error:  # whatever a renderer, an environment or ffmpeg may raise: it costs the video only
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return None


class VideoRecorder:
    """Records one episode of an environment that can render, in real time, at no more than MAX_FPS.

    Use as a context manager; the file appears only when it is complete.

    Args:
        path: of the mp4.
        env: its metadata's render_fps is the number of environment steps a second.
    """

    def __init__(self, path, env):
        import imageio.v2 as imageio

        self._path, self._env = path, env
        fps = env.metadata.get("render_fps", 30)
        self._stride = math.ceil(fps / MAX_FPS)
        self._num_steps = 0
        self._scratch = f"{path}.tmp.mp4"
        # macro_block_size 2: all that yuv420p asks for; the default of 16 would rescale frames.
        self._writer = imageio.get_writer(self._scratch, fps=fps / self._stride, macro_block_size=2)

    def __enter__(self):
        return self

    def record(self):
        """Take in the environment's present state; call it once a step."""
        if self._num_steps % self._stride == 0:
            self._writer.append_data(self._env.render())
        self._num_steps += 1

    def __exit__(self, error, *_):
        self._writer.close()
        if error is None:
            os.replace(self._scratch, self._path)
        elif os.path.exists(self._scratch):
            os.remove(self._scratch)
