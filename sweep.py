"""Return against mean effective length: what are the learned confidences worth?

Each threshold has a control of its own: the lengths that it led to, in random order. It replans as often; only *when*
is left to chance. If it returns as much, the confidences carry no information.
"""

import numpy as np

from agent.chunking import by_confidence
from episodes import play, summary

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(11))
HEADER = f"{'lengths':>18} {'mean k':>7} {'return':>10}   95%"
# Okabe and Ito's colours, told apart by colour-blind readers too.
STYLES = {
    "fixed": {"color": "#777777", "marker": "s", "label": "fixed length"},
    "confidence": {"color": "#0072B2", "marker": "o", "label": "by confidence"},
    "shuffled": {"color": "#D55E00", "marker": "x", "label": "the same lengths, shuffled"},
}


def rows(agent, env, seeds, chunk_size, sample=False):
    """The rows of the sweep, one after another, all on the same episodes' seeds.

    Yields:
        dict: kind (fixed, confidence, shuffled), setting (the length or the threshold), and `episodes.summary`.
    """

    def row(kind, setting, length):
        returns, lengths = play(agent, env, seeds, length, sample)
        return {"kind": kind, "setting": setting} | summary(returns, lengths), lengths

    for k in range(1, chunk_size + 1):
        yield row("fixed", k, lambda plan, k=k: k)[0]
    for threshold in THRESHOLDS:
        learned, lengths = row("confidence", threshold, by_confidence(threshold))
        yield learned
        if len(set(np.concatenate(lengths))) > 1:  # else they are fixed, and the control would be the same
            yield row("shuffled", threshold, shuffled(np.concatenate(lengths)))[0]


def shuffled(lengths, seed=0):
    """Plan -> the next of the lengths in random order, over and over again."""
    rng = np.random.default_rng(seed)
    queue = []

    def length(_):
        if not queue:
            queue.extend(rng.permutation(lengths).tolist())
        return queue.pop()

    return length


def line(row):
    """A row as text."""
    name = {"fixed": "fixed {}", "confidence": "threshold {}", "shuffled": "shuffled {}"}[row["kind"]]
    interval = f"[{row['return_low']:.1f}, {row['return_high']:.1f}]"
    return f"{name.format(row['setting']):>18} {row['k']:7.2f} {row['return']:10.1f}   {interval}"


def draw(result):
    """What `evaluate.py --sweep` wrote, as a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, style in STYLES.items():
        found = sorted((row for row in result["rows"] if row["kind"] == kind), key=lambda row: row["k"])
        k = np.array([row["k"] for row in found])
        value, low, high = (np.array([row[name] for row in found]) for name in ("return", "return_low", "return_high"))
        linestyle = ":" if kind == "shuffled" else "-"
        axes.errorbar(k, value, (value - low, high - value), linestyle=linestyle, capsize=2, **style)
    axes.set(
        xlabel="mean effective length k",
        ylabel=f"return, {result['episodes']} episodes, 95% interval",
        title=result["title"],
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
