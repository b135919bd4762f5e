"""Tasks x seeds x settings, each run a process of train.py. What has finished is not run again, the rest is continued.

python benchmark.py --name chunks --envs cheetah_run,walker_run --seeds 1-3 --common "num_train_steps=50000" \\
    --set "plain: chunk_size=1" --set "fixed: confidence_threshold=0" --set "adaptive:"
"""

import argparse
import os
import re
import sys

from cli import Parser
from config import POSITIVE_INT
from errors import report_errors
from launch.local import LocalJobs
from launch.ray_cluster import RayJobs
from launch.results import summary, write_results
from launch.scheduler import Benchmark, Run


def parse_seeds(text):
    """1-3,7 -> [1, 2, 3, 7]."""
    seeds = []
    for part in text.split(","):
        if not (match := re.fullmatch(r"(\d+)(?:-(\d+))?", part)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list like 1-3,7")
        first, last = int(match[1]), int(match[2] or match[1])
        seeds += range(first, last + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed, or one twice")
    return seeds


def parse_setting(text):
    """'name: flag=value flag=value' -> (name, train.py's flags); without a name it is the text itself."""
    name, colon, rest = text.partition(":")
    if not colon or "=" in name:
        name, rest = "", text
    flags = []
    for word in rest.split():
        flag, equals, value = word.partition("=")
        if not (equals and flag and value):
            raise argparse.ArgumentTypeError(f"{word!r} in {text!r} is not flag=value")
        switch = {"true": [f"--{flag}"], "false": [f"--no-{flag}"]}
        flags += switch.get(value.lower(), [f"--{flag}", *value.split(",")])
    name = name.strip() or "_".join(rest.split()) or "default"
    return re.sub(r"[^\w.-]", "_", name), flags


def parse_command_line(argv=None):
    """The command line as (name, runs, how many at a time or None, address of a Ray cluster or None)."""
    usage = "python benchmark.py --name NAME --envs A,B --seeds 1-3 --set SETTING [--set SETTING ...]"
    parser = Parser(usage=usage, description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the benchmark; results go to results/NAME/")
    parser.add_argument("--envs", required=True, type=lambda text: text.split(","), help="tasks, separated by commas")
    parser.add_argument("--seeds", required=True, type=parse_seeds, help="like 1-3,7")
    parser.add_argument("--set", required=True, action="append", type=parse_setting, dest="settings", metavar="SETTING",
                        help="'name: flag=value flag=value': flags of train.py; switches are true or false")  # fmt: skip
    parser.add_argument("--common", type=parse_setting, default=("", []), help="flag=value flag=value of every setting")
    parser.add_argument("--jobs", type=POSITIVE_INT, help="runs at a time (default: one a core, also of a cluster)")
    parser.add_argument("--ray", metavar="ADDRESS",
                        help="run them on the Ray cluster at host:port (auto: the one of this machine; local: a private one)")  # fmt: skip
    args = parser.parse_args(argv)
    if not re.fullmatch(r"[\w.-]+", args.name):
        parser.error("argument --name: only letters, digits, '.', '_' and '-' are allowed")
    names = [name for name, _ in args.settings]
    if len(set(names)) < len(names) or len(set(args.envs)) < len(args.envs):
        parser.error("argument --set or --envs: one is given twice")
    runs = []
    for seed in args.seeds:
        for env in args.envs:
            for setting, flags in args.settings:
                fixed = [
                    "--env",
                    env,
                    "--seed",
                    str(seed),
                    "--experiment",
                    f"{args.name}-{setting}",
                    "--resume",
                    "auto",
                ]
                runs.append(Run(env, setting, seed, (*args.common[1], *flags, *fixed)))
                runs[-1].parse()  # a mistake ends here, before anything runs
    return args.name, runs, args.jobs, args.ray


def main():
    """The command line."""
    name, runs, slots, address = parse_command_line()
    with report_errors():
        jobs = LocalJobs(slots) if address is None else RayJobs(address, slots)
    benchmark = Benchmark(runs, jobs, os.path.join("exp", f"{name}-logs"))
    stopped = benchmark.go()
    finished = [run for run in runs if benchmark.is_finished(run)]
    if finished:
        with report_errors():
            print(summary(write_results(name, finished)))
    if stopped is not None:
        sys.exit(128 + stopped)
    if benchmark.failed:
        sys.exit(f"benchmark.py: error: {len(benchmark.failed)} of {len(runs)} runs failed; see {benchmark.log_dir}/")


if __name__ == "__main__":
    main()
