"""Learning curves: one panel per task, one colour per setting, a thin line per seed.

python plot.py exp/RUN exp/OTHER                          runs; one setting per --experiment of train.py
python plot.py results/NAME/eval.csv                      what benchmark.py wrote
python plot.py results/NAME/eval.csv --reference published_curves.csv --levels published_returns.csv
python plot.py exp/RUN/sweep.json                         the figure of a sweep or calibration again
"""

import os
from pathlib import Path

from analysis import evaluation_file
from analysis.curves import csv_curves, draw, numbers, read_rows, reference_curves, run_curve
from analysis.statistics import STATISTICS
from analysis.style import ENDINGS, save_figure
from cli import Parser
from errors import UsageError, report_errors
from storage.files import reserved_name

DEFAULT_OUTPUT = "exp/plots/curves"


def parse_args(argv=None):
    """The parsed command line. If --output is given without --replace, no such file exists.

    A mistake ends the process.
    """
    parser = Parser(
        usage="python plot.py RUN_DIR|EVAL_CSV|JSON ... [flags]",
        description="Draw learning curves.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN_DIR|EVAL_CSV|JSON",
        help="run directories and eval.csv files of benchmarks; or JSON files of evaluate.py: one calibration, or the "
        "sweeps of one or several runs",
    )
    parser.add_argument("--statistic", choices=STATISTICS, default="mean", help="statistic over seeds (default: mean)")
    parser.add_argument(
        "--x", choices=("steps", "hours"), default="steps", help="x axis; hours of training alone (default: steps)"
    )
    parser.add_argument("--y", choices=("return", "k"), default="return", help="y axis (default: return)")
    parser.add_argument("--reference", help="CSV with env, seed, step, episode_reward: curves named after the file")
    parser.add_argument("--levels", help="CSV with env, return: horizontal lines named after the file")
    parser.add_argument(
        "--output",
        help=f"figure without .png, .svg (default: {DEFAULT_OUTPUT}, with a number if it exists)",
    )
    parser.add_argument("--replace", action="store_true", help="replace existing files (default: no)")
    args = parser.parse_args(argv)
    if (args.reference or args.levels) and (args.x, args.y) != ("steps", "return"):
        parser.error("argument --reference or --levels: only with --x steps and --y return")
    if len({source.endswith(".json") for source in args.sources}) > 1:
        parser.error("JSON files and learning curves cannot be drawn in one figure")
    if args.sources[0].endswith(".json"):
        for name in ("statistic", "x", "y", "reference", "levels"):
            if getattr(args, name) != parser.get_default(name):
                parser.error(f"argument --{name}: only for learning curves")
    if args.output and not args.replace:
        parser.refuse_existing([args.output + ending for ending in ENDINGS], "replace it with --replace")
    return args


def curves_figure(args):
    """The figure of learning curves from args.sources.

    Raises:
        UsageError: a source cannot be read, or two sources have the same task, setting and seed.
    """
    curves = []
    for source in args.sources:
        curves += [run_curve(source, args.x, args.y)] if os.path.isdir(source) else csv_curves(source, args.x, args.y)
    if len({curve[:3] for curve in curves}) < len(curves):
        raise UsageError("two curves have the same task, setting and seed; give each setting its own --experiment")
    references = reference_curves(args.reference, Path(args.reference).stem) if args.reference else []
    levels = {}
    if args.levels:
        rows = read_rows(args.levels, ("env", "return"))
        returns, label = numbers(args.levels, rows, "return"), Path(args.levels).stem
        levels = {row["env"]: (label, value) for row, value in zip(rows, returns, strict=True)}
    return draw(curves, args.statistic, args.x, args.y, references, levels)


def run(args):
    """Draw the figure and write it.

    Raises:
        UsageError: a source cannot be read, or two sources have the same task, setting and seed, or nothing can be
            written at --output.
        RunError: the figure cannot be written.
    """
    if args.sources[0].endswith(".json"):
        figure, table = evaluation_file.draw(args.sources)
    else:
        figure, table = curves_figure(args), ""
    if table:
        print(table)
    with reserved_name(args.output or DEFAULT_OUTPUT, ENDINGS, args.replace) as output:
        save_figure(figure, output)
    for ending in ENDINGS:
        print(f"wrote {output}{ending}")


def main():
    """The command."""
    with report_errors():
        run(parse_args())


if __name__ == "__main__":
    main()
