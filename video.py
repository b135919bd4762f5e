"""Evaluation episodes as mp4, on machines with and without a display."""

import importlib
import math
import os
import subprocess
import sys
import tempfile

import overlay
from errors import Refusal
from files import writing

MAX_DEFAULT_FPS = 25  # software rendering is slow: more would cost more than the training between two videos

PROBE_BYTES = 1 << 20  # more than a video of one episode

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
        with tempfile.TemporaryDirectory() as scratch:
            with VideoRecorder(os.path.join(scratch, "probe.mp4"), env) as video:
                video.record()
            return video.failure
    except Exception as error:  # whatever an environment or a missing ffmpeg may raise: it costs the video only
        return _first_line(error)


def _first_line(error):
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _steps_per_second(env):
    return env.metadata.get("render_fps", 30)


def check_fps(env, fps):
    """Raise Refusal if there are fewer environment steps in a second than frames; fps may be None."""
    rate = round(_steps_per_second(env), 2)  # as exact as ffmpeg is told
    if fps is not None and fps > rate:
        raise Refusal(
            f"argument --video_fps: {fps:g} frames per second are more than the {rate:g} steps per second of this task"
        )


class VideoRecorder:
    """Records one episode of an environment that can render, in real time.

    Use as a context manager; the file appears only when it is complete. A renderer or an ffmpeg that fails costs the
    video only; a full disk is a `Failure`.

    Args:
        path: of the mp4.
        env: its metadata's render_fps is the number of environment steps a second.
        fps: frames a second, no more than steps; None takes every n-th step, where that makes MAX_DEFAULT_FPS or less.

    Attributes:
        failure: why there will be no video; None while all is well.
    """

    def __init__(self, path, env, fps=None):
        import imageio.v2 as imageio

        self._path, self._env, self.failure = path, env, None
        rate = _steps_per_second(env)
        fps = fps or rate / math.ceil(rate / MAX_DEFAULT_FPS)
        self._steps_per_frame = rate / fps
        self._num_steps = self._num_frames = 0
        self._replanned = False  # since the last frame
        self._scratch = f"{path}.tmp.mp4"
        # macro_block_size 2: all that yuv420p asks for; the default of 16 would rescale frames.
        self._writer = imageio.get_writer(self._scratch, fps=fps, macro_block_size=2)

    def __enter__(self):
        return self

    def record(self, view=None):
        """Take in the environment's present state; call it once a step.

        Args:
            view: `overlay.PlanView` to draw into the frame, or None.
        """
        self._replanned |= view is not None and view.replanned
        # A hair early, for a step that is due only but for rounding.
        is_due = self._num_steps > self._num_frames * self._steps_per_frame - 1e-6
        if is_due and self.failure is None:
            try:
                frame = self._env.render()
                if view is not None:
                    frame = overlay.draw(frame, view._replace(replanned=self._replanned))
                self._replanned = False
                self._writer.append_data(frame)
                self._num_frames += 1
            except OSError:  # what imageio raises when the pipe to ffmpeg breaks
                self._give_up("ffmpeg failed")
            except Exception as error:  # whatever a renderer may raise
                self._give_up(_first_line(error))
        self._num_steps += 1

    def __exit__(self, error, *_):
        try:
            self._writer.close()
            if error is None and self.failure is None:
                if self._is_whole():
                    os.replace(self._scratch, self._path)
                else:
                    self._give_up("ffmpeg failed")
        finally:
            if os.path.exists(self._scratch):
                os.remove(self._scratch)

    def _is_whole(self):
        """ffmpeg writes the index of an mp4 last."""
        if not os.path.exists(self._scratch):
            return False
        with open(self._scratch, "rb") as file:
            return b"moov" in file.read()

    def _give_up(self, reason):
        self.failure = reason
        with (
            writing(self._path, PROBE_BYTES),
            open(self._scratch, "wb") as file,
        ):  # ffmpeg does not say: is it the disk?
            file.write(bytes(PROBE_BYTES))
