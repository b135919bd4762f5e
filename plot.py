"""Learning curves: one panel a task, one colour a setting, seeds summed up with 95% intervals.

python plot.py exp/RUN exp/RUN ...                        runs, by their --experiment
python plot.py results/NAME/eval.csv                      what benchmark.py wrote
python plot.py results/NAME/eval.csv --reference published_curves.csv --levels published_returns.csv
python plot.py exp/RUN/evaluation.json                    the picture of a sweep or calibration once more
"""

import csv
import json
import os
from typing import NamedTuple

import numpy as np

from errors import Refusal, one_sentence
from files import save_figure
from flags import Parser
from run_dir import read_flags

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")  # Okabe and Ito
LABELS = {
    "steps": "environment steps",
    "hours": "hours of training",
    "return": "return",
    "k": "mean effective length k",
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
        Refusal: it does not, or a file cannot be read.
    """
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{path} cannot be read as CSV: {error}") from error
    missing = [name for name in needed if not rows or rows[0].get(name) is None]
    if missing:
        raise Refusal(f"{path} has no rows, or no column {' and no column '.join(missing)}")
    return rows


def numbers(path, rows, name):
    """A column as floats."""
    try:
        return np.array([float(row[name]) for row in rows])
    except (TypeError, ValueError) as error:
        raise Refusal(f"{path}: column {name} does not hold numbers only") from error


def run_curve(run_dir, x, y):
    """The curve of a run's directory."""
    flags = read_flags(run_dir)
    try:
        task, setting, seed = flags["env"], flags["experiment"], str(flags["seed"])
    except KeyError as error:
        raise Refusal(f"{run_dir} is not the directory of a run: args.json has no {error}") from error
    path = os.path.join(run_dir, "eval.csv")
    rows = read_rows(path, ("step", y))
    steps = numbers(path, rows, "step")
    if x == "hours":
        train_path = os.path.join(run_dir, "train.csv")
        train_rows = read_rows(train_path, ("step", "duration"))
        ends, durations = (numbers(train_path, train_rows, name) for name in ("step", "duration"))
        steps = np.interp(steps, [0, *ends], [0, *np.cumsum(durations) / 3600])
    return Curve(task, setting, seed, steps, numbers(path, rows, y))


def csv_curves(path, x, y):
    """The curves of a file of `benchmark.write_results`."""
    if x == "hours":
        raise Refusal(f"{path} holds steps only; name run directories to plot against hours")
    groups = {}
    for row in read_rows(path, ("env", "setting", "seed", "step", y)):
        groups.setdefault((row["env"], row["setting"], row["seed"]), []).append(row)
    return [Curve(*who, numbers(path, rows, "step"), numbers(path, rows, y)) for who, rows in groups.items()]


def interquartile_mean(values, axis=0):
    """Mean without the lowest and the highest quarter (Agarwal et al. 2021, arXiv:2108.13264)."""
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis)


STATISTICS = {"mean": np.mean, "iqm": interquartile_mean}


def aggregate(curves, statistic):
    """Seeds of one task and setting summed up where all of them have a value.

    Args:
        curves: list of Curve.
        statistic: a name in STATISTICS.

    Returns:
        x, value, low, high, each (N,): the interval is a 95% percentile bootstrap over seeds, of no width for one seed.
    """
    from scipy.stats import bootstrap

    x = sorted(set.intersection(*(set(curve.x.tolist()) for curve in curves)))
    values = np.array([[curve.y[curve.x.tolist().index(at)] for at in x] for curve in curves])  # (seeds, N)
    function = STATISTICS[statistic]
    value = function(values, axis=0)
    if len(curves) == 1 or not x:
        return np.array(x), value, value, value
    result = bootstrap((values,), function, axis=0, vectorized=True, method="percentile", rng=np.random.default_rng(0))
    return np.array(x), value, result.confidence_interval.low, result.confidence_interval.high


def on_common_hours(curves):
    """Curves over hours, which no two seeds share, read off at as many equal times up to the shortest run's end."""
    times = np.linspace(0, min(curve.x[-1] for curve in curves), min(len(curve.x) for curve in curves) + 1)[1:]
    return [curve._replace(x=times, y=np.interp(times, curve.x, curve.y)) for curve in curves]


def draw(curves, statistic, x, y, references=(), levels=None):
    """A matplotlib figure.

    Args:
        curves: list of Curve.
        statistic, x, y: as on the command line.
        references: list of Curve, drawn in grey as far as the others go.
        levels: {task: return}, drawn as a line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    tasks = list(dict.fromkeys(curve.task for curve in curves))
    settings = list(dict.fromkeys(curve.setting for curve in curves))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 0.6 + 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for task, panel in zip(tasks, panels, strict=False):
        end = max(curve.x[-1] for curve in curves if curve.task == task)
        published = [curve for curve in references if curve.task == task]
        at, value = aggregate(published, "mean")[:2] if published else ([], [])
        if len(at) and at[0] <= end:
            shown = np.append(at[at < end], end)  # no further: returns of later steps would set the scale
            value = np.interp(shown, at, value, right=np.nan)
            panel.plot(shown, value, color="#888888", linestyle="--", label="published SAC")
        if levels and task in levels:
            panel.axhline(levels[task], color="#888888", linestyle=":", label="published D4PG, 1e8 steps")
        for setting, colour in zip(settings, COLOURS * len(settings), strict=False):
            seeds = [curve for curve in curves if (curve.task, curve.setting) == (task, setting)]
            if seeds:
                at, value, low, high = aggregate(on_common_hours(seeds) if x == "hours" else seeds, statistic)
                # A line of one point, and the area around it, would not be seen.
                marker, edge = ("o", 3) if len(at) == 1 else (None, 0)
                panel.plot(at, value, color=colour, marker=marker, clip_on=False, label=f"{setting} ({len(seeds)})")
                panel.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=edge)
        panel.set(title=task, xlabel=LABELS[x], ylabel=LABELS[y], xlim=(0, end))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.grid(alpha=0.3)
    for panel in panels:
        panel.set_axis_off()  # those left over
    handles = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def evaluation_figure(paths):
    """The picture of a sweep or a calibration once more, from evaluate.py's JSON file, or of the sweeps of several runs.

    Raises:
        Refusal: one is not such a file, or they are not all sweeps alike.
    """
    import calibration
    import sweep

    results = []
    for path in paths:
        try:
            with open(path) as file:
                results.append(json.load(file))
            figure = (sweep if "rows" in results[-1] else calibration).draw(results[-1])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{path} is not a JSON file of evaluate.py --sweep or --calibration") from error
    if len(results) == 1:
        return figure
    if not all("rows" in result for result in results):
        raise Refusal("one JSON file of a calibration at a time")
    pooled = sweep.pool(results)
    print(sweep.gains_table(pooled))
    return sweep.draw(pooled)


def parse_args(argv=None):
    """The command line."""
    parser = Parser(
        usage="python plot.py RUN_DIR|EVAL_CSV|JSON ... [flags]",
        description="Draw learning curves.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN_DIR|EVAL_CSV|JSON",
        help="run directories and eval.csv of a benchmark; or the JSON file of evaluate.py --calibration, or of --sweep, "
        "then of one run or of several",
    )
    parser.add_argument("--statistic", choices=STATISTICS, default="mean", help="over seeds (default: mean)")
    parser.add_argument(
        "--x", choices=("steps", "hours"), default="steps", help="hours leave evaluations out (default: steps)"
    )
    parser.add_argument("--y", choices=("return", "k"), default="return", help="(default: return)")
    parser.add_argument("--reference", help="CSV with columns env, seed, step, episode_reward: curves to draw in grey")
    parser.add_argument("--levels", help="CSV with columns env, return: lines to draw")
    parser.add_argument(
        "--output", default="figures/curves", help="without its ending: .png, .svg (default: figures/curves)"
    )
    parser.add_argument("--replace", action="store_true", help="replace files that exist (default: no)")
    args = parser.parse_args(argv)
    if (args.reference or args.levels) and (args.x, args.y) != ("steps", "return"):
        parser.error("argument --reference or --levels: they are returns at steps")
    if len({source.endswith(".json") for source in args.sources}) > 1:
        parser.error("JSON files and curves are different pictures")
    if not args.replace:
        parser.refuse_existing([f"{args.output}.png", f"{args.output}.svg"], "--replace it")
    return args


def curves_figure(args):
    """The figure of the command line's sources.

    Raises:
        Refusal: a source is not what it should be.
    """
    curves = []
    for source in args.sources:
        curves += [run_curve(source, args.x, args.y)] if os.path.isdir(source) else csv_curves(source, args.x, args.y)
    if len({curve[:3] for curve in curves}) < len(curves):
        raise Refusal("a task, setting and seed is there twice; give settings names of their own with --experiment")
    references, levels = [], {}
    if args.reference:
        groups = {}
        for row in read_rows(args.reference, ("env", "seed", "step", "episode_reward")):
            groups.setdefault((row["env"], row["seed"]), []).append(row)
        for (task, seed), rows in groups.items():
            x, y = (numbers(args.reference, rows, name) for name in ("step", "episode_reward"))
            references.append(Curve(task, "published", seed, x, y))
    if args.levels:
        rows = read_rows(args.levels, ("env", "return"))
        levels = dict(zip((row["env"] for row in rows), numbers(args.levels, rows, "return"), strict=True))
    return draw(curves, args.statistic, args.x, args.y, references, levels)


def run(args):
    """Read, draw, write.

    Raises:
        Refusal: a source is not what it should be.
    """
    is_evaluation = args.sources[0].endswith(".json")
    figure = evaluation_figure(args.sources) if is_evaluation else curves_figure(args)
    os.makedirs(os.path.dirname(args.output) or ".", exist_ok=True)
    save_figure(figure, args.output)
    print(f"wrote {args.output}.png\nwrote {args.output}.svg")


def main():
    """The command line; every error is one sentence."""
    args = parse_args()
    with one_sentence():
        run(args)


if __name__ == "__main__":
    main()
