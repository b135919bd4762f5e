"""Runs what is unfinished of a benchmark, some runs at a time."""

import os
import re
import signal
import time
from typing import NamedTuple

from cli import parse_train_args
from launch.process import LARGE_HIDDEN_DIM
from storage.run_dir import finished_steps

STATUS_INTERVAL = 60  # seconds between two status reports while nothing starts or ends


class Run(NamedTuple):
    """One run of the benchmark."""

    env: str
    setting: str
    seed: int
    argv: tuple  # of train.py

    def parse(self):
        """(its Config as train.py will have it, its directory or None before it has started)."""
        return parse_train_args(self.argv)

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
        self.steps = {run: run.parse()[0].num_train_steps for run in runs}
        self.failed = {}  # run -> last line it printed
        self._running = {}  # run -> its job
        self._signals = []  # received

    def done_steps(self, run):
        """Steps that a run has logged so far."""
        _, directory = run.parse()
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
        flags = ["--num_threads", str(self.jobs.threads)] if run.parse()[0].hidden_dim > LARGE_HIDDEN_DIM else []
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
