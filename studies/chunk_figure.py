"""Draws figures/chunk.png and figures/chunk.svg, for docs/algorithm.md: chunk size h beside executed length k.

    python -m studies.chunk_figure

Five plans that follow one another in the episode of the loop in README.md (docs/evaluation.md names its commands).
"""

import numpy as np

from agent.chunking import executed_length
from analysis.style import save_figure

OUTPUT = "figures/chunk"
THRESHOLD = 0.5
FIRST_STEP = 69
PLANS = np.array(
    [
        (1, 0.88, 0.61, 0.58, 0.35),
        (1, 0.66, 0.63, 0.53, 0.47),
        (1, 0.57, 0.51, 0.47, 0.40),
        (1, 0.59, 0.48, 0.55, 0.32),
        (1, 0.75, 0.52, 0.58, 0.51),
    ]
)  # (plans, h) confidences
EXECUTED, OTHER, ORANGE = "#56B4E9", "#CCCCCC", "#E69F00"  # as in videos
ROW = 1.5  # height of a plan; a confidence of 1 is 1 high


def draw(plans, first_step, threshold):
    """Confidences (plans, h) as a Figure: a row per plan, the first on top, over the steps that it plans."""
    from matplotlib.figure import Figure

    lengths = executed_length(plans, threshold)
    starts = first_step + np.cumsum(lengths) - lengths
    h = plans.shape[1]
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for row, (start, k, confidences) in enumerate(zip(starts, lengths, plans, strict=True)):
        low, steps = -ROW * row, start + np.arange(h)
        bars = {"width": 0.85, "bottom": low}
        executed, other = "executed" if row == 0 else None, "planned, but not executed" if row == 1 else None
        axes.bar(steps[:k], confidences[:k], color=EXECUTED, label=executed, **bars)
        axes.bar(steps[k:], confidences[k:], color=OTHER, label=other, **bars)
        line = {"color": ORANGE, "label": f"threshold {threshold:g}" if row == 0 else None}
        axes.hlines(low + threshold, start - 0.5, start + h - 0.5, **line)
        for step, confidence in zip(steps, confidences, strict=True):
            axes.text(step, low + 0.06, "1" if confidence == 1 else f"{confidence:.2f}", ha="center", fontsize=8)
        axes.text(start + h - 0.3, low + threshold, f"h = {h}, k = {k}", va="center")
    axes.set(xlabel="step of the episode", xlim=(first_step - 0.7, starts[-1] + h + 2.4), yticks=[])
    axes.set_ylim(bottom=ROW * (1 - len(plans)) - 0.15)
    axes.set_xticks(starts, [f"{step}\nplan" for step in starts])
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.set_title("Each row is a plan: a bar per planned action, as high as its confidence", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    save_figure(draw(PLANS, FIRST_STEP, THRESHOLD), OUTPUT)
