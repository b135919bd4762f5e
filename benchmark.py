"""Train all combinations of tasks, seeds and settings; skip finished runs, continue unfinished ones.

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
from config import POSITIVE_INT, SEED, as_json, differing_flags
from errors import UsageError, report_errors, unwritable_ignored
from launch.local import ROOT, LocalJobs
from launch.ray_cluster import ClusterError, RayJobs
from launch.results import check_results, summary, write_results
from launch.run import Run
from launch.scheduler import Scheduler
from storage.run_dir import finished_steps, lock

MAX_SEEDS = 1000  # in one range; more is a typing error
# Flags of train.py that a setting cannot have, and why.
RESERVED_FLAGS = {
    "help": "it trains nothing",
    "env": "--envs sets it",
    "seed": "--seeds sets it",
    "experiment": "--name and the name of the setting make it",
    "resume": "runs are always continued",
}


def parse_seeds(text):
    """Seeds as text: 1-3,7 -> [1, 2, 3, 7].

    Raises:
        ArgumentTypeError: text is not a list of seeds, or has one twice.
    """
    seeds = []
    for part in text.split(","):
        if not (match := re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list like 1-3,7")
        first, last = SEED(match[1]), SEED(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"{part} ends before it starts")
        if last - first >= MAX_SEEDS:
            raise argparse.ArgumentTypeError(f"{part} is a range of more than {MAX_SEEDS} seeds")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} has a seed twice")
    return seeds


def parse_envs(text):
    """Tasks as text: cheetah_run, walker_run -> ["cheetah_run", "walker_run"].

    Raises:
        ArgumentTypeError: a name is empty or there twice.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name, or a name twice")
    return names


def parse_setting(text):
    """A setting as text: 'name: flag=value flag=value' -> (name, command line of train.py).

    Without a name, the text itself is the name.

    Raises:
        ArgumentTypeError: text is not a setting, or has a flag of RESERVED_FLAGS.
    """
    name, colon, rest = text.partition(":")
    if not text.strip():
        raise argparse.ArgumentTypeError("a setting cannot be empty; 'name:' is a setting without flags")
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
    """(name, list of `Run`, number of parallel runs or None, address of a Ray cluster or None).

    A mistake ends the process.
    """
    usage = "python benchmark.py --name NAME --envs A,B --seeds 1-3 --set SETTING [--set SETTING ...]"
    parser = Parser(usage=usage, description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="name of the benchmark; its results go to results/NAME/")
    parser.add_argument("--envs", required=True, type=parse_envs, help="tasks, separated by commas")
    parser.add_argument("--seeds", required=True, type=parse_seeds, help="seeds, such as 1-3,7")
    setting = "a setting, 'name: flag=value flag=value', with flags of train.py; switches are true or false"
    parser.add_argument(
        "--set", required=True, action="append", type=parse_setting, dest="settings", metavar="SETTING", help=setting
    )
    parser.add_argument("--common", type=parse_setting, default=("", []), help="flag=value flag=value for all settings")
    parser.add_argument("--jobs", type=POSITIVE_INT, help="number of parallel runs (default: one per core)")
    ray = "Ray cluster to run on: host:port, auto (this machine's cluster) or local (a private one on this machine)"
    parser.add_argument("--ray", metavar="ADDRESS", help=ray)
    args = parser.parse_args(argv)
    if not re.fullmatch(r"[\w.-]*[\w-][\w.-]*", args.name):
        parser.error("argument --name: only letters, digits, '.', '_' and '-' are allowed, and not only dots")
    names = [name for name, _ in args.settings]
    if len(set(names)) < len(names):
        parser.error("argument --set: a name is given twice")
    runs = [
        make_run(args, env, *setting, seed) for seed in args.seeds for env in args.envs for setting in args.settings
    ]
    return args.name, runs, args.jobs, args.ray


def make_run(args, env, setting, flags, seed):
    """The `Run` of an environment, setting and seed.

    A mistake in the flags of train.py ends the process.

    Raises:
        UsageError: the flags switch checkpoints off, or the run exists and has other flags or more steps.
    """
    fixed = ["--env", env, "--seed", str(seed), "--experiment", f"{args.name}-{setting}"]
    new = (*args.common[1], *flags, *fixed)
    argv = (*new, "--resume", "auto")
    config, run_dir = parse_train_args(argv)
    if not config.checkpoint_frequency:
        raise UsageError("argument --set or --common: checkpoint_frequency=0 is refused: runs need checkpoints")
    if run_dir:
        _check_alike(run_dir, config, parse_train_args(new)[0])
    return Run(env, setting, seed, argv, config)


def _check_alike(run_dir, config, asked):
    """Check that a run that exists is what the flags would make of a new one: both are rows of one table.

    Args:
        run_dir: of the run.
        config: `Config` of the run; flags that are not given are its own.
        asked: `Config` of the same flags for a new run.

    Raises:
        UsageError: they differ in a flag that the results depend on, or the run has more steps.
    """
    differing = differing_flags(as_json(config), asked)
    if config.num_train_steps != asked.num_train_steps:
        differing.append(f"--num_train_steps is saved as {config.num_train_steps}, not {asked.num_train_steps}")
    if (done := finished_steps(run_dir)) > config.num_train_steps:
        differing.append(f"it has done {done} steps, more than --num_train_steps {config.num_train_steps}")
    if differing:
        way_out = "give the same flags, or another --name"
        raise UsageError(f"argument --set or --common: {run_dir} is another run: {', '.join(differing)}; {way_out}")


def check_envs(runs):
    """Check the names of the environments of runs that have not started yet.

    This takes a process of its own, because importing dm_control is slow and fixes the renderer. Modules of custom
    environments are not imported.

    Raises:
        UsageError: there is no environment of such a name.
    """
    if names := list(dict.fromkeys(run.env for run in runs if run.directory() is None)):
        command = [sys.executable, "-P", "-m", "envs", *names]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise UsageError(f"argument --envs: {(result.stderr.strip().splitlines() or ['cannot be checked'])[-1]}")


def main():
    """The command."""
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
            check_results(name)
            stopped, problems = scheduler.go(), {}
            if finished := [run for run in runs if run in scheduler.finished]:
                rows, problems = write_results(name, finished)
                lines = [summary(rows), *(f"{run.name} failed: {reason}" for run, reason in problems.items())]
                with unwritable_ignored():
                    print(*filter(None, lines), sep="\n", flush=True)
    if stopped is not None:
        sys.exit(128 + stopped)
    if failed := len(scheduler.failed) + len(problems):
        sys.exit(f"benchmark.py: error: {failed} of {len(runs)} runs failed; see {log_dir}/")


@contextmanager
def locked(log_dir):
    """Lock a benchmark's name, so that a second process cannot run everything twice.

    Raises:
        UsageError: another process holds the lock, or log_dir cannot be created.
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
