"""Learning curves: one panel per task, one colour per setting, a thin line per seed.

python plot.py exp/RUN exp/RUN ...                        runs, by their --experiment
python plot.py results/NAME/eval.csv                      what benchmark.py wrote
python plot.py results/NAME/eval.csv --reference published_curves.csv --levels published_returns.csv
python plot.py exp/RUN/sweep.json                         the picture of a sweep or calibration once more
"""

import os

from analysis import evaluation_file
from analysis.curves import Curve, csv_curves, draw, numbers, read_rows, run_curve
from analysis.statistics import STATISTICS
from analysis.style import ENDINGS, save_figure
from cli import Parser
from errors import UsageError, report_errors
from storage.files import check_writable, free_name

DEFAULT_OUTPUT = "exp/plots/curves"


def parse_args(argv=None):
    """The command line; `output` is a name that is free, or may be replaced."""
    parser = Parser(
        usage="python plot.py RUN_DIR|EVAL_CSV|JSON ... [flags]",
        description="Draw learning curves.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN_DIR|EVAL_CSV|JSON",
        help="run directories and eval.csv of a benchmark; or the JSON file of evaluate.py --calibration, or of "
        "--sweep, then of one run or of several",
    )
    parser.add_argument("--statistic", choices=STATISTICS, default="mean", help="over seeds (default: mean)")
    parser.add_argument(
        "--x", choices=("steps", "hours"), default="steps", help="hours leave evaluations out (default: steps)"
    )
    parser.add_argument("--y", choices=("return", "k"), default="return", help="(default: return)")
    parser.add_argument("--reference", help="CSV with columns env, seed, step, episode_reward: curves to draw in grey")
    parser.add_argument("--levels", help="CSV with columns env, return: lines to draw")
    parser.add_argument(
        "--output", help=f"without its ending: .png, .svg (default: {DEFAULT_OUTPUT}, with a number if that exists)"
    )
    parser.add_argument("--replace", action="store_true", help="replace files that exist (default: no)")
    args = parser.parse_args(argv)
    if (args.reference or args.levels) and (args.x, args.y) != ("steps", "return"):
        parser.error("argument --reference or --levels: they are returns at steps")
    if len({source.endswith(".json") for source in args.sources}) > 1:
        parser.error("JSON files and curves are different pictures")
    if args.output and not args.replace:
        parser.refuse_existing([args.output + ending for ending in ENDINGS], "--replace it")
    args.output = args.output or (DEFAULT_OUTPUT if args.replace else free_name(DEFAULT_OUTPUT, ENDINGS))
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
        RunError: the picture cannot be written.
    """
    if args.sources[0].endswith(".json"):
        figure, table = evaluation_file.draw(args.sources)
    else:
        figure, table = curves_figure(args), ""
    if table:
        print(table)
    check_writable(f"{args.output}.png")
    save_figure(figure, args.output)
    for ending in ENDINGS:
        print(f"wrote {args.output}{ending}")


def main():
    """The command line; every error is one sentence."""
    with report_errors():
        run(parse_args())


if __name__ == "__main__":
    main()
