"""Learning curves: one panel a task, one colour a setting, seeds summed up with 95% intervals.

python plot.py exp/RUN exp/RUN ...                        runs, by their --experiment
python plot.py results/NAME/eval.csv                      what benchmark.py wrote
python plot.py results/NAME/eval.csv --reference published_curves.csv --levels published_returns.csv
python plot.py exp/RUN/evaluation.json                    the picture of a sweep or calibration once more
"""

import json
import os

from analysis.curves import STATISTICS, Curve, csv_curves, draw, numbers, read_rows, run_curve
from analysis.style import save_figure
from cli import Parser
from errors import UsageError, report_errors


def evaluation_figure(paths):
    """The picture of a sweep or a calibration once more, from evaluate.py's JSON file, or of the sweeps of several runs.

    Raises:
        UsageError: one is not such a file, or they are not all sweeps alike.
    """
    from analysis import calibration, threshold_sweep

    results = []
    for path in paths:
        try:
            with open(path) as file:
                results.append(json.load(file))
            figure = (threshold_sweep if "rows" in results[-1] else calibration).draw(results[-1])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is not a JSON file of evaluate.py --sweep or --calibration") from error
    if len(results) == 1:
        return figure
    if not all("rows" in result for result in results):
        raise UsageError("one JSON file of a calibration at a time")
    pooled = threshold_sweep.pool(results)
    print(threshold_sweep.gains_table(pooled))
    return threshold_sweep.draw(pooled)


def parse_args(argv=None):
    """The command line."""
    parser = Parser(
        usage="python plot.py RUN_DIR|EVAL_CSV|JSON ... [flags]",
        description="Draw learning curves.",
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
        UsageError: a source is not what it should be.
    """
    curves = []
    for source in args.sources:
        curves += [run_curve(source, args.x, args.y)] if os.path.isdir(source) else csv_curves(source, args.x, args.y)
    if len({curve[:3] for curve in curves}) < len(curves):
        raise UsageError("a task, setting and seed is there twice; give settings names of their own with --experiment")
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
        UsageError: a source is not what it should be.
    """
    is_evaluation = args.sources[0].endswith(".json")
    figure = evaluation_figure(args.sources) if is_evaluation else curves_figure(args)
    os.makedirs(os.path.dirname(args.output) or ".", exist_ok=True)
    save_figure(figure, args.output)
    print(f"wrote {args.output}.png\nwrote {args.output}.svg")


def main():
    """The command line; every error is one sentence."""
    args = parse_args()
    with report_errors():
        run(args)


if __name__ == "__main__":
    main()
