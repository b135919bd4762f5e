"""Tasks x seeds x settings, each run a process of train.py. What has finished is not run again, the rest is continued.

python benchmark.py --name chunks --envs cheetah_run,walker_run --seeds 1-3 --common "num_train_steps=50000" \\
    --set "plain: chunk_size=1" --set "fixed: confidence_threshold=0" --set "adaptive:"
"""

import argparse
import csv
import io
import os
import re
import shlex
import signal
import statistics
import sys
import time
from typing import NamedTuple

from errors import one_sentence
from files import write_atomically
from flags import POSITIVE_INT, Parser, parse_args
from jobs import LocalJobs
from ray_jobs import RayJobs
from run_dir import finished_steps, read_record

STATUS_INTERVAL = 60  # seconds between two status reports while nothing starts or ends


class Run(NamedTuple):
    """One run of the benchmark."""

    env: str
    setting: str
    seed: int
    argv: tuple  # of train.py

    def args(self):
        """Its flags as train.py will have them; `resume` is its directory, or None before it has started."""
        return parse_args(self.argv)

    def name(self):
        return f"{self.env} {self.setting} seed {self.seed}"


class Benchmark:
    """Runs what is unfinished, some at a time.

    Args:
        runs: list of Run.
        jobs: LocalJobs or RayJobs, where they are executed.
        log_dir: where what they print goes.
    """

    def __init__(self, runs, jobs, log_dir):
        self.runs, self.jobs, self.log_dir = runs, jobs, log_dir
        self.steps = {run: run.args().num_train_steps for run in runs}
        self.failed = {}  # run -> last line it printed
        self._running = {}  # run -> its job
        self._signals = []  # received

    def done_steps(self, run):
        """Steps that a run has logged so far."""
        directory = run.args().resume
        if directory is None:
            return 0
        if finished_steps(directory) >= self.steps[run]:
            return self.steps[run]
        try:
            with open(os.path.join(directory, "train.csv")) as file:
                return int([line for line in file if line.endswith("\n")][-1].split(",")[0])
        except (OSError, ValueError, IndexError):
            return 0

    def is_finished(self, run):
        return self.done_steps(run) >= self.steps[run]

    def go(self):
        """Work until nothing is left, or until a signal has ended the runs; returns its number or None."""
        os.makedirs(self.log_dir, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: self._signals.append(number))
        waiting = [run for run in self.runs if not self.is_finished(run)]
        started, at_start, shown, shown_at = time.monotonic(), sum(map(self.done_steps, self.runs)), None, 0.0
        passed_on = 0
        while (waiting and not self._signals) or self._running:
            while waiting and not self._signals and len(self._running) < self.jobs.slots:
                run = waiting.pop(0)
                self._running[run] = self._start(run)
            if len(self._signals) > passed_on:
                passed_on += 1
                for job in self._running.values():
                    job.terminate()
            for run, job in list(self._running.items()):
                if (status := job.poll()) is not None:
                    del self._running[run]
                    if status and not self._signals:
                        self.failed[run] = self._last_line(run)
            state = (*waiting, None, *self._running)
            if state != shown or time.monotonic() - shown_at > STATUS_INTERVAL:
                shown, shown_at = state, time.monotonic()
                done = {run: self.done_steps(run) for run in self.runs}
                print(self._status(done, waiting, shown_at - started, sum(done.values()) - at_start), flush=True)
            time.sleep(0.5)
        return self._signals[0] if self._signals else None

    def _start(self, run):
        flags = ["--num_threads", str(self.jobs.threads)] if run.args().hidden_dim > 512 else []
        return self.jobs.start([*run.argv, *flags], self._log(run))

    def _log(self, run):
        return os.path.join(self.log_dir, re.sub(r"[^\w.-]", "_", run.name()) + ".log")

    def _last_line(self, run):
        with open(self._log(run)) as log:
            return ([line.strip() for line in log if line.strip()] or ["nothing printed"])[-1]

    def _status(self, done, waiting, seconds, new_steps):
        lines = []
        for run in self.runs:
            state = f"{done[run]:,} of {self.steps[run]:,}"
            if run in self.failed:
                state += f", failed: {self.failed[run]}"
            elif done[run] < self.steps[run]:
                state += ", waiting" if run in waiting else ", running" if run in self._running else ", stopped"
            lines.append(f"{run.name():50} {state}")
        left = sum(self.steps[run] - done[run] for run in self.runs if run not in self.failed)
        eta = f"{left * seconds / new_steps / 3600:.1f} h" if new_steps else "unknown"
        return "\n".join([*lines, f"{sum(done.values()):,} of {sum(self.steps.values()):,} steps, time left: {eta}\n"])


def write_results(name, runs):
    """results/NAME/runs.csv, a row a finished run, and eval.csv, all their evaluations."""
    runs_rows, eval_rows = [], []
    for run in runs:
        directory = run.args().resume
        record = read_record(directory)
        who = {"env": run.env, "setting": run.setting, "seed": run.seed}
        with open(os.path.join(directory, "eval.csv"), newline="") as file:
            rows = [who | row for row in csv.DictReader(file)]
        eval_rows += rows
        versions = " ".join(f"{package}=={version}" for package, version in record["versions"].items())
        command = shlex.join(["python", "train.py", *run.argv])
        commit = record["git_commit"]
        runs_rows.append(
            who | {"return": rows[-1]["return"], "commit": commit, "command": command, "versions": versions}
        )
    for path, rows in ((f"results/{name}/runs.csv", runs_rows), (f"results/{name}/eval.csv", eval_rows)):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        text = io.StringIO()
        columns = list(dict.fromkeys(column for row in rows for column in row))
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue().encode())
    return runs_rows


def summary(rows):
    """Last evaluation of every seed, by task and setting, as text."""
    groups = {}
    for row in rows:
        groups.setdefault((row["env"], row["setting"]), []).append(float(row["return"]))
    return "\n".join(
        f"{env:28} {setting:20} median {statistics.median(v):8.1f}   " + " ".join(f"{x:.1f}" for x in v)
        for (env, setting), v in groups.items()
    )


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
    parser = Parser(usage=usage, description=__doc__.splitlines()[0], allow_abbrev=False)
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
                runs[-1].args()  # a mistake ends here, before anything runs
    return args.name, runs, args.jobs, args.ray


def main():
    """The command line."""
    name, runs, slots, address = parse_command_line()
    with one_sentence():
        jobs = LocalJobs(slots) if address is None else RayJobs(address, slots)
    benchmark = Benchmark(runs, jobs, os.path.join("exp", f"{name}-logs"))
    stopped = benchmark.go()
    finished = [run for run in runs if benchmark.is_finished(run)]
    if finished:
        with one_sentence():
            print(summary(write_results(name, finished)))
    if stopped is not None:
        sys.exit(128 + stopped)
    if benchmark.failed:
        sys.exit(f"benchmark.py: error: {len(benchmark.failed)} of {len(runs)} runs failed; see {benchmark.log_dir}/")


if __name__ == "__main__":
    main()
