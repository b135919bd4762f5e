"""Threshold sweep: return against mean executed length k, with the learned confidences and with controls.

The control of each threshold executes the lengths that the threshold led to, in random order. It replans as often,
but at random times. If its return is as high, the confidences carry no information.
"""

import numpy as np
from scipy.stats import ttest_1samp

from agent.chunking import by_confidence
from analysis.statistics import (
    error_bars,
    interval_text,
    mean_interval,
    mean_interval_name,
    seeds_interval,
    seeds_interval_name,
    summary,
)
from analysis.style import COLOURS, GREY
from errors import UsageError
from rollout import play

THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(11))
APART = 0.03  # kinds in the picture, in units of k
STYLES = {
    "fixed": {"color": GREY, "marker": "s", "label": "fixed length"},
    "confidence": {"color": COLOURS[0], "marker": "o", "label": "by confidence"},
    "shuffled": {"color": COLOURS[1], "marker": "x", "label": "the same lengths, shuffled"},
}


def rows(agent, env, seeds, chunk_size, sample=False):
    """The rows of the sweep, one after another, all on the same episodes' seeds.

    Yields:
        dict: kind (fixed, confidence, shuffled), setting (the length or the threshold), and `statistics.summary`.
    """

    def row(kind, setting, commit_rule):
        returns, lengths = play(agent, env, seeds, commit_rule, sample)
        return {"kind": kind, "setting": setting} | summary(returns, lengths), lengths

    for k in range(1, chunk_size + 1):
        yield row("fixed", k, lambda plan, k=k: k)[0]
    for threshold in THRESHOLDS:
        learned, lengths = row("confidence", threshold, by_confidence(threshold))
        yield learned
        if len(set(np.concatenate(lengths))) > 1:  # else shuffling changes nothing
            yield row("shuffled", threshold, shuffled(np.concatenate(lengths)))[0]


def shuffled(lengths, seed=0):
    """Plan -> the next of the lengths in random order, over and over again."""
    rng = np.random.default_rng(seed)
    queue = []

    def commit_rule(_):
        if not queue:
            queue.extend(rng.permutation(lengths).tolist())
        return queue.pop()

    return commit_rule


def header(num_episodes):
    """What stands above the rows of `line`."""
    return f"{'lengths':>18} {'mean k':>7} {'return':>10}   {mean_interval_name(num_episodes)}".rstrip()


def line(row):
    """A row as text."""
    name = {"fixed": "fixed {}", "confidence": "threshold {}", "shuffled": "shuffled {}"}[row["kind"]]
    interval = interval_text(row["return_low"], row["return_high"], digits=1)
    return f"{name.format(row['setting']):>18} {row['k']:7.2f} {row['return']:10.1f}   {interval}".rstrip()


def pool(results):
    """The sweeps of several runs as one, whose intervals are over runs (`statistics.seeds_interval`).

    Where a run's lengths are all the same, shuffling changes nothing: its shuffled return is the learned one.

    Args:
        results: what `evaluate.py --sweep` wrote, each of another run.

    Returns:
        dict: title, runs, interval (its name), rows as those of `rows` with the return of each run, and gains: of each
        threshold, mean k, by how much learned lengths returned more than shuffled ones in each run, its mean and
        `mean_interval`, and p of Student's paired test; None where all runs gain the same.

    Raises:
        UsageError: they are not of one task, two are of the same seed, one is incomplete, or their --episodes,
            --sample, fixed lengths or thresholds differ.
    """
    titles = [result["title"].partition(", step ")[0] for result in results]  # task, seed
    _check_alike(titles, results)
    tables = [{(row["kind"], row["setting"]): row for row in result["rows"]} for result in results]
    for table in tables:
        for kind, setting in list(table):
            if kind == "confidence":
                table.setdefault(("shuffled", setting), table[kind, setting])
    if any(table.keys() != tables[0].keys() for table in tables):
        raise UsageError("these sweeps do not have the same fixed lengths and thresholds")

    def values(name, kind, setting):
        return np.array([table[kind, setting][name] for table in tables])

    rows, gains = [], []
    for kind, setting in tables[0]:
        returns, k = values("return", kind, setting), float(np.mean(values("k", kind, setting)))
        value, low, high = map(float, seeds_interval(returns))
        row = {"kind": kind, "setting": setting, "k": k, "return": value, "return_low": low, "return_high": high}
        rows.append(row | {"returns_of_runs": returns.tolist()})
        if kind == "confidence":
            gain = returns - values("return", "shuffled", setting)
            value, low, high = mean_interval(gain)
            is_constant = np.allclose(gain, gain[0], rtol=1e-9, atol=0)  # but for rounding
            p = None if is_constant else float(ttest_1samp(gain, 0).pvalue)
            summed_up = {"gain": value, "gain_low": low, "gain_high": high, "p": p}
            gains.append({"threshold": setting, "k": k, "gains": gain.tolist()} | summed_up)
    task = titles[0].split(",")[0].rpartition(":")[2]  # without the module of a Gymnasium id
    title = f"{task}, {len(results)} runs"
    interval = seeds_interval_name(len(results))
    return {"title": title, "runs": len(results), "interval": interval, "rows": rows, "gains": gains}


def _check_alike(titles, results):
    if len({title.split(",")[0] for title in titles}) > 1 or len(set(titles)) < len(titles):
        raise UsageError("these sweeps are not of runs of one task with different seeds")
    for result in results:
        if not result.get("complete", True):  # older files do not say
            raise UsageError(f"the sweep of {result['title']} is incomplete")
    if len({result.get("step") for result in results}) > 1:
        raise UsageError("these sweeps are not of runs after the same number of steps")
    for name in ("episodes", "sample"):
        if len({result.get(name) for result in results}) > 1:
            raise UsageError(f"these sweeps were not played with the same --{name}")


def over_fixed(result, threshold):
    """By how much a threshold returned more than a fixed length would at the same looks per step.

    Looks per step are 1 / k; returns of fixed lengths are interpolated linearly over them.

    Args:
        result: what `evaluate.py --sweep` wrote of one run.
        threshold: one of `THRESHOLDS`.
    """
    rows = {(row["kind"], row["setting"]): row for row in result["rows"]}
    fixed = sorted((row for row in result["rows"] if row["kind"] == "fixed"), key=lambda row: -row["k"])
    learned = rows["confidence", threshold]
    looks, returns = [1 / row["k"] for row in fixed], [row["return"] for row in fixed]
    return float(learned["return"] - np.interp(1 / learned["k"], looks, returns))


def gains_table(pooled):
    """The gains of `pool` as text."""
    name = mean_interval_name(pooled["runs"])
    lines = [f"{'threshold':>9} {'mean k':>7} {'learned - shuffled':>19}   {name:22} {'p':>8}  better in"]
    for gain in pooled["gains"]:
        interval = interval_text(gain["gain_low"], gain["gain_high"], digits=1)
        better = sum(value > 0 for value in gain["gains"])
        p = "-" if gain["p"] is None else f"{gain['p']:.2g}"
        lines.append(
            f"{gain['threshold']:9} {gain['k']:7.2f} {gain['gain']:19.1f}   {interval:22} {p:>8}"
            f"  {better} of {pooled['runs']}"
        )
    return "\n".join(lines)


def draw(result):
    """What `evaluate.py --sweep` wrote, or `pool` made of it, as a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes = figure.subplots()
    # The kinds share many k: on the same spot one bar would hide another.
    for (kind, style), shift in zip(STYLES.items(), (-APART, 0, APART), strict=True):
        found = sorted((row for row in result["rows"] if row["kind"] == kind), key=lambda row: row["k"])
        k = np.array([row["k"] for row in found], float) + shift
        value, low, high = ([row[name] for row in found] for name in ("return", "return_low", "return_high"))
        linestyle = ":" if kind == "shuffled" else "-"
        axes.errorbar(k, value, error_bars(value, low, high), linestyle=linestyle, capsize=2, markersize=5, **style)
        runs = [row.get("returns_of_runs", []) for row in found]  # of a pooled sweep
        axes.plot(k, runs, marker="_", markersize=5, linestyle="none", color=style["color"])
    interval = result.get("interval", "95% bootstrap interval")  # older files do not name it
    episodes = f"{result['episodes']} episodes" if "episodes" in result else ""
    marks = "each run marked" if "runs" in result else ""
    axes.set(xlabel=f"mean executed length k (kinds drawn {APART} apart)", ylabel="return", title=result["title"])
    axes.grid(alpha=0.3)
    title = ", ".join(filter(None, [f"bars: {interval}" if interval else "", episodes, marks]))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, title=title)
    return figure
