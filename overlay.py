"""What the agent has in mind, drawn into a frame: step, return, and the plan it is executing."""

from typing import NamedTuple

import numpy as np

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


def draw(frame, view):
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
