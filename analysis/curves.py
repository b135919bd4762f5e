"""Learning curves: one panel per task, one colour per setting, each seed and a statistic over seeds."""

import csv
import os
from collections import Counter
from typing import NamedTuple

import numpy as np

from analysis.statistics import seeds_interval, seeds_interval_name
from analysis.style import COLOURS
from errors import UsageError
from logger import read_csv
from storage.run_dir import read_flags

LABELS = {
    "steps": "simulator steps",
    "hours": "hours of training",
    "return": "return",
    "k": "mean executed length k",
}


class Curve(NamedTuple):
    """One seed."""

    task: str
    setting: str
    seed: str
    x: np.ndarray  # (N,), rising
    y: np.ndarray  # (N,)


def read_rows(path, needed):
    """The rows of a CSV file that has these columns, at least one.

    Raises:
        UsageError: it does not, or a file cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {error}") from error
    return checked_rows(path, rows, needed)


def checked_rows(path, rows, needed):
    """The rows of a file, if there is one and they have these columns.

    Raises:
        UsageError: they do not.
    """
    missing = [name for name in needed if not rows or rows[0].get(name) is None]
    if missing:
        raise UsageError(f"{path} has no rows, or no column {' and no column '.join(missing)}")
    return rows


def numbers(path, rows, name):
    """A column as floats.

    Raises:
        UsageError: one is no number, or not finite.
    """
    try:
        values = np.array([float(row[name]) for row in rows])
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: column {name} does not hold numbers only") from error
    if not np.isfinite(values).all():
        raise UsageError(f"{path}: column {name} holds {values[~np.isfinite(values)][0]}, which is not finite")
    return values


def run_curve(run_dir, x, y):
    """The curve of a run's directory."""
    flags = read_flags(run_dir)
    try:
        task, setting, seed = flags["env"], flags["experiment"], str(flags["seed"])
    except KeyError as error:
        raise UsageError(f"{run_dir} is not the directory of a run: args.json has no {error}") from error
    path = os.path.join(run_dir, "eval.csv")
    rows = checked_rows(path, read_csv(path)[1], ("step", y))
    steps = numbers(path, rows, "step")
    if x == "hours":
        train_path = os.path.join(run_dir, "train.csv")
        train_rows = checked_rows(train_path, read_csv(train_path)[1], ("step", "duration"))
        ends, durations = (numbers(train_path, train_rows, name) for name in ("step", "duration"))
        ends, hours = np.array([0, *ends]), np.array([0, *np.cumsum(durations) / 3600])
        # Beyond the last finished episode: at its speed.
        beyond = np.maximum(steps - ends[-1], 0) * (hours[-1] - hours[-2]) / (ends[-1] - ends[-2])
        steps = np.interp(steps, ends, hours) + beyond
    else:
        steps = steps * flags.get("action_repeat", 1)
    return Curve(task, setting, seed, steps, numbers(path, rows, y))


def csv_curves(path, x, y):
    """The curves of a file of `launch.results.write_results`.

    Older rows have no simulator_step; their runs have no action repeat.
    """
    if x == "hours":
        raise UsageError(f"{path} holds steps only; name run directories to plot against hours")
    groups, curves = {}, []
    for row in read_rows(path, ("env", "setting", "seed", "step", y)):
        groups.setdefault((row["env"], row["setting"], row["seed"]), []).append(row)
    for who, rows in groups.items():
        name = "simulator_step" if rows[0].get("simulator_step") else "step"
        curves.append(Curve(*who, numbers(path, rows, name), numbers(path, rows, y)))
    return curves


def reference_curves(path, setting):
    """The curves of a file with the columns env, seed, step, episode_reward."""
    groups = {}
    for row in read_rows(path, ("env", "seed", "step", "episode_reward")):
        groups.setdefault((row["env"], row["seed"]), []).append(row)
    return [
        Curve(task, setting, seed, numbers(path, rows, "step"), numbers(path, rows, "episode_reward"))
        for (task, seed), rows in groups.items()
    ]


def aggregate(curves, statistic):
    """A statistic over the seeds of one task and setting, at the steps that all of them have.

    Args:
        curves: list of Curve.
        statistic: a name in `statistics.STATISTICS`.

    Returns:
        x, value, low, high, each (N,): the interval is that of `statistics.seeds_interval`.

    Raises:
        UsageError: there is no step at which all seeds have a value.
    """
    x = sorted(set.intersection(*(set(curve.x.tolist()) for curve in curves)))
    if not x:
        raise UsageError(f"the seeds of {curves[0].task}, {curves[0].setting} have no step in common")
    values = np.array([[curve.y[curve.x.tolist().index(at)] for at in x] for curve in curves])  # (seeds, N)
    return np.array(x), *seeds_interval(values, statistic)


def on_common_hours(curves):
    """Curves over hours, interpolated at the same times, since seeds are evaluated at different ones.

    A single curve stays as it is.
    """
    if len(curves) == 1:
        return curves
    times = np.linspace(0, min(curve.x[-1] for curve in curves), min(len(curve.x) for curve in curves) + 1)[1:]
    return [curve._replace(x=times, y=np.interp(times, curve.x, curve.y)) for curve in curves]


def draw(curves, statistic, x, y, references=(), levels=None):
    """A matplotlib figure: one panel per task, one colour per setting, a thin line per seed.

    Args:
        curves: list of Curve.
        statistic, x, y: as on the command line.
        references: list of Curve of one setting, drawn in grey as far as the others go.
        levels: {task: (label, return)}, drawn as a line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    tasks = list(dict.fromkeys(curve.task for curve in curves))
    settings = list(dict.fromkeys(curve.setting for curve in curves))
    columns = 2 if len(tasks) == 4 else min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 0.9 + 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for task, panel in zip(tasks, panels, strict=False):
        end = max(curve.x[-1] for curve in curves if curve.task == task)
        _draw_references(panel, [curve for curve in references if curve.task == task], (levels or {}).get(task), end)
        for setting, colour in zip(settings, COLOURS * len(settings), strict=False):
            seeds = [curve for curve in curves if (curve.task, curve.setting) == (task, setting)]
            if seeds:
                _draw_setting(panel, seeds, statistic, x, colour)
        panel.set(title=task, xlabel=LABELS[x], ylabel=LABELS[y], xlim=(0, end))
        if x == "steps":
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(alpha=0.3)
    for panel in panels:
        panel.set_axis_off()  # those left over
    _draw_legend(figure, curves, statistic)
    return figure


def _draw_references(panel, references, level, end):
    at, value = aggregate(references, "mean")[:2] if references else ([], [])
    if len(at) and at[0] <= end:
        shown = np.append(at[at < end], end)  # returns of later steps would set the scale
        value = np.interp(shown, at, value, right=np.nan)
        panel.plot(shown, value, color="#888888", linestyle="--", label=references[0].setting)
    if level is not None:
        label, value = level
        panel.axhline(value, color="#888888", linestyle=":", label=label)


def _draw_setting(panel, seeds, statistic, x, colour):
    at, value, low, high = aggregate(on_common_hours(seeds) if x == "hours" else seeds, statistic)
    if len(seeds) > 1:
        for seed in seeds:
            panel.plot(seed.x, seed.y, color=colour, linewidth=0.6, alpha=0.5)
    # A line of one point, and the area around it, would be invisible.
    marker, edge = ("o", 3) if len(at) == 1 else (None, 0)
    panel.plot(at, value, color=colour, marker=marker, clip_on=False, label=f"{seeds[0].setting} ({len(seeds)})")
    panel.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=edge)


def _draw_legend(figure, curves, statistic):
    """Settings with their number of seeds; above them, what lines and areas are."""
    handles = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    counts = Counter((curve.task, curve.setting) for curve in curves).values()
    intervals = " or ".join(filter(None, map(seeds_interval_name, sorted(set(counts)))))
    title = f"{'interquartile mean' if statistic == 'iqm' else statistic}, thin: each seed, area: {intervals}"
    legend = {"loc": "outside lower center", "ncols": 4, "frameon": False}
    figure.legend(handles.values(), handles.keys(), title=title if intervals else None, **legend)
