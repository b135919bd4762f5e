"""Record evaluation episodes as mp4, with the plan drawn into each frame."""

import functools
import math
import os
import subprocess
import tempfile
from contextlib import suppress
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from storage.files import writing

MAX_DEFAULT_FPS = 25  # software rendering is slow: more would cost more than the training between two videos

PROBE_BYTES = 1 << 20  # more than a video of one episode

EXECUTED, OTHER, THRESHOLD, TEXT = (86, 180, 233), (150, 150, 150), (230, 159, 0), (255, 255, 255)  # Okabe and Ito
STRIP = 0.25  # height of the strip below the frame, as a share of the frame's
MIN_FRAME_HEIGHT = 45  # pixels; below, no bar would fit into the strip


class PlanView(NamedTuple):
    """A moment of an episode."""

    step: int  # about to be executed, the first is 0
    episode_return: float  # so far
    confidences: np.ndarray  # (h,)
    threshold: float
    executed_length: int  # k, steps of the plan that are executed
    position: int  # of this step in the plan, 0..k-1
    replanned: bool  # whether there is a new plan since the last frame


def draw_plan(frame, view):
    """The frame (H, W, 3) uint8 with a strip below it, unless H is less than MIN_FRAME_HEIGHT.

    Left: step and return, for h > 1 also k and the threshold. Right, for h > 1: a bar per confidence, blue for the
    actions that are executed, white-edged for the current one; the threshold as an orange line; a white dot above the
    first bar where the agent has just planned.
    """
    if frame.shape[0] < MIN_FRAME_HEIGHT:
        return frame.copy()
    from PIL import Image, ImageDraw

    height, width = frame.shape[:2]
    bottom = 2 * round(STRIP * height / 2)  # mp4 takes even sizes
    strip = Image.new("RGB", (width, bottom))
    pen = ImageDraw.Draw(strip)
    margin = max(2, height // 64)
    lines = [f"step {view.step}", f"return {view.episode_return:.1f}"]
    if len(view.confidences) > 1:
        lines.append(f"k {view.executed_length}, threshold {view.threshold:g}")
        left, right, low, high = width * 0.55, width - margin, bottom - margin - 1, 3 * margin
        _draw_bars(pen, view, left, right, low, high)
        if view.replanned:
            x, y = left + 0.375 * (right - left) / len(view.confidences), 1.5 * margin
            pen.ellipse((x - margin / 2, y - margin / 2, x + margin / 2, y + margin / 2), fill=TEXT)
    for i, line in enumerate(lines):
        pen.text((margin, i * bottom // 3), line, TEXT, _font(max(8, height // 18)))
    return np.concatenate([frame, strip])


@functools.cache
def _font(size):
    """Pillow's font; loading it takes longer than a strip."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_bars(pen, view, left, right, low, high):
    """A bar per confidence, from y = low (0) to y = high (1), and the threshold."""
    pitch = (right - left) / len(view.confidences)
    for i, confidence in enumerate(view.confidences):
        x = left + i * pitch
        bar = (x, low - float(confidence) * (low - high), x + 0.75 * pitch, low)
        colour = EXECUTED if i < view.executed_length else OTHER
        pen.rectangle(bar, fill=colour, outline=TEXT if i == view.position else colour)
    y = low - view.threshold * (low - high)
    pen.line((left, y, right, y), fill=THRESHOLD, width=2)  # one pixel would lose its colour in the mp4


def probe_video(env, overlay=True):
    """Record a test frame, with a plan if overlay is true; return None, or what was in the way, in one sentence."""
    view = PlanView(0, 0.0, np.linspace(1, 0, 5), 0.5, 3, 0, True) if overlay else None
    try:
        env.reset(seed=0)
        with tempfile.TemporaryDirectory() as scratch:
            with VideoRecorder(os.path.join(scratch, "probe.mp4"), env) as video:
                video.record(view)
            return video.failure
    except Exception as error:  # whatever an environment or a missing ffmpeg may raise: it costs the video only
        return _first_sentence(error)


def _first_sentence(error):
    """Of an exception's text, which may be broken into lines anywhere."""
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__


def _check_frame(frame):
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"render() returned {frame.dtype} {frame.shape} instead of uint8 (H, W, 3)")
    return frame


def _steps_per_second(env):
    return env.metadata.get("render_fps", 30)


def check_fps(env, fps):
    """Raise ValueError if there are fewer environment steps than frames per second; fps may be None."""
    rate = round(_steps_per_second(env), 2)  # as exact as ffmpeg is told
    if fps is not None and fps > rate:
        raise ValueError(f"{fps:g} frames per second are more than the {rate:g} steps per second of this task")


class VideoRecorder:
    """Records one episode of an environment that can render, in real time.

    Use as a context manager; the file appears only when it is complete. A renderer or an ffmpeg that fails costs the
    video only; a full disk is a `RunError`.

    Args:
        path: of the mp4.
        env: its metadata's render_fps is the number of environment steps per second.
        fps: frames per second, no more than steps; None takes every n-th step, where that makes MAX_DEFAULT_FPS or
            less.

    Attributes:
        failure: why there will be no video; None while all is well.
    """

    def __init__(self, path, env, fps=None):
        self._path, self._env, self.failure = path, env, None
        rate = _steps_per_second(env)
        fps = fps or rate / math.ceil(rate / MAX_DEFAULT_FPS)
        self._steps_per_frame = rate / fps
        self._num_steps = self._num_frames = 0
        self._replanned = False  # since the last frame
        self._scratch = f"{path}.tmp.mp4"
        self._encoder = _Encoder(self._scratch, fps)

    def __enter__(self):
        return self

    def record(self, view=None):
        """Take in the environment's present state; call it once per step.

        Args:
            view: `PlanView` to draw into the frame, or None.

        Raises:
            RunError: the disk is full.
        """
        self._replanned |= view is not None and view.replanned
        # Tolerance for rounding.
        is_due = self._num_steps > self._num_frames * self._steps_per_frame - 1e-6
        if is_due and self.failure is None:
            try:
                frame = _check_frame(self._env.render())
                if view is not None:
                    frame = draw_plan(frame, view._replace(replanned=self._replanned))
                self._replanned = False
                self._encoder.write(frame)
                self._num_frames += 1
            except BrokenPipeError:  # ffmpeg has gone
                self._ffmpeg_failed()
            except Exception as error:  # whatever a renderer may raise
                self.failure = _first_sentence(error)
        self._num_steps += 1

    def __exit__(self, error, *_):
        try:
            if error is not None or self.failure is not None:
                self._encoder.kill()
            elif self._encoder.finish() and self._has_index():
                os.replace(self._scratch, self._path)
            else:
                self._ffmpeg_failed()
        finally:
            if os.path.exists(self._scratch):
                os.remove(self._scratch)

    def _has_index(self):
        """ffmpeg writes the index of an mp4 last."""
        if not os.path.exists(self._scratch):
            return False
        with open(self._scratch, "rb") as file:
            return b"moov" in file.read()

    def _ffmpeg_failed(self):
        """ffmpeg does not say why: is it the disk? What it has written still takes its room there."""
        self.failure = "ffmpeg failed"
        probe = f"{self._path}.probe"
        with writing(self._path, PROBE_BYTES):
            try:
                with open(probe, "wb") as file:
                    file.write(bytes(PROBE_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                if os.path.exists(probe):
                    os.remove(probe)


class _Encoder:
    """An ffmpeg process, started by the first frame, that writes an mp4 and nothing to the terminal."""

    def __init__(self, path, fps):
        self._path, self._fps = path, Fraction(fps).limit_denominator()
        self._process = self._shape = None

    def write(self, frame):
        """Encode a frame (H, W, 3) uint8.

        Raises:
            ValueError: it is not of the first one's size.
            BrokenPipeError: ffmpeg has ended.
        """
        if self._process is None:
            self._shape = frame.shape
            self._start()
        if frame.shape != self._shape:
            raise ValueError(f"render() returned {frame.shape} after {self._shape}")
        odd = [(0, size % 2) for size in frame.shape[:2]]  # yuv420p takes even sizes only
        self._process.stdin.write(np.pad(frame, (*odd, (0, 0)), mode="edge").tobytes())

    def finish(self):
        """Wait for ffmpeg to end; whether it says that all is well."""
        if self._process is None:
            return False
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.wait() == 0

    def kill(self):
        """End ffmpeg at once; its file is of no use."""
        if self._process is not None:
            self._process.kill()
            self.finish()

    def _start(self):
        from imageio_ffmpeg import get_ffmpeg_exe

        height, width = (size + size % 2 for size in self._shape[:2])
        command = [get_ffmpeg_exe(), "-y", "-v", "quiet", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{width}x{height}", "-r", str(self._fps), "-i", "-", "-an"]
        command += ["-vcodec", "libx264", "-preset", "veryfast", "-crf", "25", "-pix_fmt", "yuv420p"]
        command += [f"file:{self._path}"]
        # A process group of its own: Ctrl-C ends the run's episode first.
        group = {"process_group": 0} if os.name == "posix" else {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet, **group)
        except OSError as error:
            raise RuntimeError(f"ffmpeg cannot be started: {error.strerror}") from error
