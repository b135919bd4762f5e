"""Tasks x seeds x settings, each run a process of train.py. What has finished is not run again, the rest is continued.

python benchmark.py --name chunks --envs cheetah_run,walker_run --seeds 1-3 --common "num_train_steps=50000" \\
    --set "plain: chunk_size=1" --set "fixed: confidence_threshold=0" --set "adaptive:"
"""

import argparse
import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from cli import Parser, parse_train_args
from config import POSITIVE_INT, SEED
from errors import UsageError, report_errors
from launch.local import ROOT, LocalJobs
from launch.ray_cluster import ClusterError, RayJobs
from launch.results import summary, write_results
from launch.run import Run
from launch.scheduler import Scheduler
from storage.run_dir import lock

# Flags of train.py that no setting may have: what decides them here.
MAX_SEEDS = 1000  # of one range
RESERVED_FLAGS = {
    "help": "it is a flag of the command line",
    "env": "--envs decides it",
    "seed": "--seeds decides it",
    "experiment": "it is made of --name and the setting's name",
    "resume": "runs are always continued",
}


def parse_seeds(text):
    """1-3,7 -> [1, 2, 3, 7]."""
    seeds = []
    for part in text.split(","):
        if not (match := re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list like 1-3,7")
        first, last = SEED(match[1]), SEED(match[2] or match[1])
        if last - first >= MAX_SEEDS:
            raise argparse.ArgumentTypeError(f"{part} are more than {MAX_SEEDS} seeds")
        seeds += range(first, last + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} holds no seed, or one twice")
    return seeds


def parse_envs(text):
    """cheetah_run, walker_run -> ["cheetah_run", "walker_run"]."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} holds an empty name, or one twice")
    return names


def parse_setting(text):
    """'name: flag=value flag=value' -> (name, train.py's flags); without a name it is the text itself."""
    name, colon, rest = text.partition(":")
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty text is no setting; 'name:' is one without flags")
    if not colon or "=" in name:
        name, rest = "", text
    flags = []
    for word in rest.split():
        flag, equals, value = word.partition("=")
        if not (equals and flag and value):
            raise argparse.ArgumentTypeError(f"{word!r} in {text!r} is not flag=value")
        if flag in RESERVED_FLAGS:
            raise argparse.ArgumentTypeError(f"{word!r} cannot be given here: {RESERVED_FLAGS[flag]}")
        switch = {"true": [f"--{flag}"], "false": [f"--no-{flag}"]}
        flags += switch.get(value.lower(), [f"--{flag}", *value.split(",")])
    name = name.strip() or "_".join(rest.split()) or "default"
    return re.sub(r"[^\w.-]", "_", name), flags


def parse_command_line(argv=None):
    """The command line as (name, runs, how many at a time or None, address of a Ray cluster or None)."""
    usage = "python benchmark.py --name NAME --envs A,B --seeds 1-3 --set SETTING [--set SETTING ...]"
    parser = Parser(usage=usage, description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the benchmark; results go to results/NAME/")
    parser.add_argument("--envs", required=True, type=parse_envs, help="tasks, separated by commas")
    parser.add_argument("--seeds", required=True, type=parse_seeds, help="like 1-3,7")
    setting = "'name: flag=value flag=value': flags of train.py; switches are true or false"
    parser.add_argument(
        "--set", required=True, action="append", type=parse_setting, dest="settings", metavar="SETTING", help=setting
    )
    parser.add_argument("--common", type=parse_setting, default=("", []), help="flag=value flag=value of every setting")
    parser.add_argument("--jobs", type=POSITIVE_INT, help="runs at a time (default: one per core, also of a cluster)")
    ray = "run them on the Ray cluster at host:port (auto: the one of this machine; local: a private one)"
    parser.add_argument("--ray", metavar="ADDRESS", help=ray)
    args = parser.parse_args(argv)
    if not re.fullmatch(r"[\w.-]*[\w-][\w.-]*", args.name):
        parser.error("argument --name: only letters, digits, '.', '_' and '-' are allowed, and not dots alone")
    names = [name for name, _ in args.settings]
    if len(set(names)) < len(names):
        parser.error("argument --set: one is given twice")
    runs = [
        make_run(args, env, *setting, seed) for seed in args.seeds for env in args.envs for setting in args.settings
    ]
    return args.name, runs, args.jobs, args.ray


def make_run(args, env, setting, flags, seed):
    """A `Run`; a mistake in the flags of train.py ends the process."""
    fixed = ["--env", env, "--seed", str(seed), "--experiment", f"{args.name}-{setting}", "--resume", "auto"]
    argv = (*args.common[1], *flags, *fixed)
    config, _ = parse_train_args(argv)
    if not config.checkpoint_frequency:
        raise UsageError("argument --set or --common: checkpoint_frequency=0 leaves nothing to continue a run from")
    return Run(env, setting, seed, argv, config)


def check_envs(runs):
    """Refuse names of environments that do not exist; those of runs that have started are not looked up.

    In a process of its own: what knows the names is slow to import and settles on a renderer. Modules of custom
    environments are not imported.

    Raises:
        UsageError: a name does not exist.
    """
    if names := list(dict.fromkeys(run.env for run in runs if run.directory() is None)):
        command = [sys.executable, "-P", "-m", "envs", *names]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise UsageError(f"argument --envs: {(result.stderr.strip().splitlines() or ['cannot be checked'])[-1]}")


def main():
    """The command line."""
    with report_errors():
        name, runs, slots, address = parse_command_line()
        check_envs(runs)
        try:
            jobs = LocalJobs(slots) if address is None else RayJobs(address, slots)
        except ClusterError as error:
            raise UsageError(f"argument --ray: {error}") from error
        log_dir = os.path.join("exp", f"{name}-logs")
        scheduler = Scheduler(runs, jobs, log_dir)
        with locked(log_dir):
            stopped = scheduler.go()
            if finished := [run for run in runs if scheduler.is_finished(run)]:
                print(summary(write_results(name, finished)))
    if stopped is not None:
        sys.exit(128 + stopped)
    if scheduler.failed:
        sys.exit(f"benchmark.py: error: {len(scheduler.failed)} of {len(runs)} runs failed; see {log_dir}/")


@contextmanager
def locked(log_dir):
    """Keeps a second benchmark of the same name from running everything twice.

    Raises:
        UsageError: there is one.
    """
    with ExitStack() as stack:
        try:
            os.makedirs(log_dir, exist_ok=True)
            stack.enter_context(lock(log_dir))
        except OSError as error:
            raise UsageError(f"argument --name: cannot create {log_dir}: {error.strerror}") from error
        except UsageError as error:
            raise UsageError(f"argument --name: {error}") from error
        yield


if __name__ == "__main__":
    main()
