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

MAX_DEFAULT_FPS = 25  # software rendering is slow: with more, a video would take longer than the training between two

PROBE_BYTES = 1 << 20  # more than the video of an episode needs

EXECUTED, OTHER, THRESHOLD, TEXT = (86, 180, 233), (150, 150, 150), (230, 159, 0), (255, 255, 255)  # Okabe and Ito
STRIP = 0.25  # height of the strip relative to the frame's
MIN_FRAME_HEIGHT = 45  # pixels; in less, no bar fits into the strip


class PlanView(NamedTuple):
    """What the strip of a frame shows."""

    step: int  # number of the step about to be executed, from 0
    episode_return: float  # before this step
    confidences: np.ndarray  # (h,)
    threshold: float  # confidence threshold
    executed_length: int  # k
    position: int  # of this step in the plan, 0..k-1
    replanned: bool  # whether the plan is new since the last frame


def draw_plan(frame, view):
    """The frame (H, W, 3) uint8 with a strip below it, unless H is less than MIN_FRAME_HEIGHT.

    Left: step and return, for h > 1 also k and the threshold. Right, for h > 1: a bar per confidence, blue for the
    actions that are executed, white-edged for the current one; the threshold as an orange line; a white dot above the
    first bar if the plan is new.
    """
    if frame.shape[0] < MIN_FRAME_HEIGHT:
        return frame.copy()
    from PIL import Image, ImageDraw

    height, width = frame.shape[:2]
    bottom = 2 * round(STRIP * height / 2)  # mp4 needs even sizes
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
    pen.line((left, y, right, y), fill=THRESHOLD, width=2)  # a line of one pixel loses its colour in the mp4


def probe_video(env, overlay=True):
    """Record a test frame, with a plan if overlay is true; return None, or a one-line error."""
    view = PlanView(0, 0.0, np.linspace(1, 0, 5), 0.5, 3, 0, True) if overlay else None
    try:
        env.reset(seed=0)
        with tempfile.TemporaryDirectory() as scratch:
            with VideoRecorder(os.path.join(scratch, "probe.mp4"), env) as video:
                video.record(view)
            return video.failure
    except Exception as error:  # environments and ffmpeg can raise anything; training goes on without video
        return _first_sentence(error)


def _first_sentence(error):
    """The first sentence of an exception's text, which may contain line breaks."""
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__


def _check_frame(frame):
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"render() returned {frame.dtype} {frame.shape} instead of uint8 (H, W, 3)")
    return frame


def _steps_per_second(env):
    return env.metadata.get("render_fps") or 30


def check_fps(env, fps):
    """Check the frame rate of a video.

    Args:
        env: environment to record.
        fps: frames per second, or None for the default.

    Raises:
        ValueError: fps is more than the environment's steps per second.
    """
    rate = round(_steps_per_second(env), 2)  # decimals of the message: what it names must be accepted
    if fps is not None and fps > rate:
        raise ValueError(f"{fps:g} frames per second are more than the {rate:g} steps per second of this task")


class VideoRecorder:
    """Records one episode as a video that plays in real time.

    Use it as a context manager; the file appears only when it is complete. If the renderer or ffmpeg fails, there is no
    video and `failure` says why.

    Args:
        path: path of the mp4.
        env: environment with render(); its metadata's render_fps is the number of steps per second (default: 30).
        fps: frames per second, at most render_fps; None records every n-th step, with the smallest n that gives at
            most MAX_DEFAULT_FPS.

    Attributes:
        failure: one sentence, or None.

    Raises:
        RunError: on leaving the context: the disk is full.
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
        """Record the environment's current state, if a frame is due. Call it once per step.

        Args:
            view: `PlanView` to draw below the frame, or None.

        Raises:
            RunError: the disk is full.
        """
        self._replanned |= view is not None and view.replanned
        # 1e-6: rounding must not delay a frame by a step.
        is_due = self._num_steps > self._num_frames * self._steps_per_frame - 1e-6
        if is_due and self.failure is None:
            try:
                frame = _check_frame(self._env.render())
                if view is not None:
                    frame = draw_plan(frame, view._replace(replanned=self._replanned))
                self._replanned = False
                self._encoder.write(frame)
                self._num_frames += 1
            except BrokenPipeError:  # ffmpeg has ended
                self._ffmpeg_failed()
            except Exception as error:  # renderers can raise anything
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
        """Whether the mp4 is complete: ffmpeg writes its index last."""
        if not os.path.exists(self._scratch):
            return False
        with open(self._scratch, "rb") as file:
            return b"moov" in file.read()

    def _ffmpeg_failed(self):
        """Set `failure`; raise RunError if the disk is full, which ffmpeg does not report. Its file is still there."""
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
    """An ffmpeg process that writes an mp4. The first frame starts it; it prints nothing."""

    def __init__(self, path, fps):
        self._path, self._fps = path, Fraction(fps).limit_denominator()
        self._process = self._shape = None

    def write(self, frame):
        """Encode a frame (H, W, 3) uint8.

        Raises:
            ValueError: its size differs from the first frame's.
            RuntimeError: ffmpeg cannot be started.
            BrokenPipeError: ffmpeg has ended.
        """
        if self._process is None:
            self._shape = frame.shape
            self._start()
        if frame.shape != self._shape:
            raise ValueError(f"render() returned {frame.shape} after {self._shape}")
        odd = [(0, size % 2) for size in frame.shape[:2]]  # yuv420p needs even sizes
        self._process.stdin.write(np.pad(frame, (*odd, (0, 0)), mode="edge").tobytes())

    def finish(self):
        """Close the video and wait for ffmpeg; whether it succeeded."""
        if self._process is None:
            return False
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.wait() == 0

    def kill(self):
        """End ffmpeg at once; its file is incomplete."""
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
        # A process group of its own: Ctrl-C must not end ffmpeg before the episode ends.
        group = {"process_group": 0} if os.name == "posix" else {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet, **group)
        except OSError as error:
            raise RuntimeError(f"ffmpeg cannot be started: {error.strerror}") from error
