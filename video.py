"""Evaluation episodes as mp4, with the plan drawn into each frame."""

import math
import os
import tempfile
from typing import NamedTuple

import numpy as np

from errors import UsageError
from storage.files import writing

MAX_DEFAULT_FPS = 25  # software rendering is slow: more would cost more than the training between two videos

PROBE_BYTES = 1 << 20  # more than a video of one episode

EXECUTED, OTHER, THRESHOLD, TEXT = (86, 180, 233), (150, 150, 150), (230, 159, 0), (255, 255, 255)  # Okabe and Ito
HEIGHT = 0.2  # of the strip at the bottom, as a share of the frame's
SHADE = 0.45  # what is left of the picture's brightness under the strip


class PlanView(NamedTuple):
    """A moment of an episode."""

    step: int  # about to be executed, the first is 0
    episode_return: float  # so far
    confidences: np.ndarray  # (h,)
    threshold: float
    length: int  # k, steps of the plan that are executed
    position: int  # of this step in the plan, 0..k-1
    replanned: bool  # whether there is a new plan since the last frame


def draw_plan(frame, view):
    """A copy of the frame (H, W, 3) uint8 with a strip at the bottom.

    Left: step and return. Right, for h > 1: a bar a confidence, blue for the steps that are executed, white-edged for
    the present one; the threshold as an orange line; a white dot above the first bar where the agent has just planned.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = frame.shape[:2]
    top = height - round(HEIGHT * height)
    frame = frame.copy()
    frame[top:] = (SHADE * frame[top:]).astype(np.uint8)
    image = Image.fromarray(frame)
    pen = ImageDraw.Draw(image)
    margin = max(2, height // 64)
    font = ImageFont.load_default(size=max(8, height // 18))
    for i, line in enumerate((f"step {view.step}", f"return {view.episode_return:.1f}")):
        pen.text((margin, top + i * (height - top) // 2), line, TEXT, font)
    h = len(view.confidences)
    if h > 1:
        left, low, high = width * 0.55, height - margin - 1, top + 3 * margin
        pitch = (width - margin - left) / h
        for i, confidence in enumerate(view.confidences):
            x = left + i * pitch
            bar = (x, low - float(confidence) * (low - high), x + 0.75 * pitch, low)
            colour = EXECUTED if i < view.length else OTHER
            pen.rectangle(bar, fill=colour, outline=TEXT if i == view.position else colour)
        y = low - view.threshold * (low - high)
        pen.line((left, y, width - margin, y), fill=THRESHOLD)
        if view.replanned:
            x = left + 0.375 * pitch
            pen.ellipse((x - margin / 2, top + margin / 2, x + margin / 2, top + 1.5 * margin), fill=TEXT)
    return np.asarray(image)


def probe_video(env):
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
    """Raise UsageError if there are fewer environment steps in a second than frames; fps may be None."""
    rate = round(_steps_per_second(env), 2)  # as exact as ffmpeg is told
    if fps is not None and fps > rate:
        raise UsageError(
            f"argument --video_fps: {fps:g} frames per second are more than the {rate:g} steps per second of this task"
        )


class VideoRecorder:
    """Records one episode of an environment that can render, in real time.

    Use as a context manager; the file appears only when it is complete. A renderer or an ffmpeg that fails costs the
    video only; a full disk is a `RunError`.

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
            view: `PlanView` to draw into the frame, or None.
        """
        self._replanned |= view is not None and view.replanned
        # A hair early, for a step that is due only but for rounding.
        is_due = self._num_steps > self._num_frames * self._steps_per_frame - 1e-6
        if is_due and self.failure is None:
            try:
                frame = self._env.render()
                if view is not None:
                    frame = draw_plan(frame, view._replace(replanned=self._replanned))
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
