"""Run the unfinished runs of a benchmark, several at a time."""

import os
import re
import signal
import time

from errors import UsageError, unwritable_ignored
from launch.process import LARGE_HIDDEN_DIM, acknowledge
from launch.results import last_step

STATUS_INTERVAL = 60  # seconds between two status lines while no run starts or ends


class Scheduler:
    """Executes the unfinished runs, jobs.slots at a time.

    Args:
        runs: list of `Run`.
        jobs: `LocalJobs` or `RayJobs`.
        log_dir: directory for the output of the runs.

    Attributes:
        finished: set of the runs that are known to have finished.
        failed: {run: reason} of the runs that ended early without being stopped.
    """

    def __init__(self, runs, jobs, log_dir):
        self.runs, self.jobs, self.log_dir = runs, jobs, log_dir
        self.finished, self.failed = set(), {}
        self._waiting = []
        self._running = {}  # {run: job}
        self._ended = {}  # {run with exit status 0: time until which its directory may be out of date}
        self._signals = []  # numbers of the received signals
        self._num_passed_on = 0  # signals that were forwarded to the jobs

    def go(self):
        """Execute all runs, or until a signal stops them; returns the number of the first signal, or None."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        for run in self.runs:
            if not self.is_finished(run):
                self._waiting.append(run)
        status = Status(self)
        while (self._waiting and not self._signals) or self._running or self._ended:
            self._start_jobs()
            self._pass_signals_on()
            self._collect_jobs()
            self._check_ended()
            status.report()
            time.sleep(0.5)
        return self._signals[0] if self._signals else None

    def is_finished(self, run):
        """Whether a run has finished. Once it has, its directory is not read again.

        Raises:
            UsageError: see `Run.is_finished`.
        """
        if run not in self.finished and run.is_finished():
            self.finished.add(run)
        return run in self.finished

    def state(self, run):
        """State of a run, as text for the status lines."""
        if run in self.finished:
            return "finished"
        if run in self.failed:
            return f"failed: {self.failed[run]}"
        if run in self._running or run in self._ended:
            return "running"
        return "waiting" if run in self._waiting else "stopped"

    def _start_jobs(self):
        while self._waiting and not self._signals and len(self._running) < self.jobs.slots:
            run = self._waiting.pop(0)
            threads = ["--num_threads", str(self.jobs.threads)]
            flags = threads if run.config.hidden_dim > LARGE_HIDDEN_DIM else []
            try:
                self._running[run] = self.jobs.start([*flags, *run.argv], run.config, self._log(run))
            except OSError as error:  # as of its log file
                self.failed[run] = f"cannot be started: {error}"

    def _receive(self, number, _):
        self._signals.append(number)
        runs = f"{len(self._running)} run{'s' * (len(self._running) != 1)}"
        how = "at the next checkpoint, the end of an episode; a second signal stops at once"
        acknowledge(f"stopping {runs} {how if len(self._signals) == 1 else 'at once'}")

    def _pass_signals_on(self):
        if len(self._signals) > self._num_passed_on:
            self._num_passed_on += 1
            for job in self._running.values():
                job.terminate()

    def _collect_jobs(self):
        for run, job in list(self._running.items()):
            if (status := job.poll()) is not None:
                del self._running[run]
                if status == 0:
                    self._ended[run] = time.monotonic() + self.jobs.delay
                elif not self._signals:
                    cause = f"killed by signal {-status}: " if status < 0 else ""
                    self.failed[run] = f"{cause}{self._last_line(run)}"

    def _check_ended(self):
        """A run with exit status 0 has finished only if its directory says so, which a file server can show late."""
        for run, deadline in list(self._ended.items()):
            try:
                finished, problem = self.is_finished(run), "ended with status 0 before its last step"
            except UsageError as error:
                finished, problem = False, str(error)
            if finished:
                del self._ended[run]
            elif time.monotonic() >= deadline:
                del self._ended[run]
                self.failed[run] = f"{problem}: {self._last_line(run)}"

    def _log(self, run):
        return os.path.join(self.log_dir, re.sub(r"[^\w.-]", "_", run.name) + ".log")

    def _last_line(self, run):
        try:
            with open(self._log(run), errors="replace") as log:
                return ([line.strip() for line in log if line.strip()] or ["nothing printed"])[-1]
        except OSError as error:
            return f"{self._log(run)} cannot be read: {error.strerror}"


class Status:
    """Prints state changes of runs, and the total progress with the time left.

    Args:
        scheduler: `Scheduler`.
    """

    def __init__(self, scheduler):
        self._scheduler, self._started = scheduler, time.monotonic()
        self._num_steps = sum(run.num_steps for run in scheduler.runs)
        self._at_start = sum(map(self._done_steps, scheduler.runs))
        self._states = {run: "finished" if run in scheduler.finished else "waiting" for run in scheduler.runs}
        self._due = 0.0

    def report(self):
        """Print if a run has started or ended, or STATUS_INTERVAL seconds after the last line. Call it often."""
        states, now = {run: self._scheduler.state(run) for run in self._scheduler.runs}, time.monotonic()
        if states == self._states and now < self._due:
            return
        done = {run: self._done_steps(run) for run in self._scheduler.runs}
        lines = [
            f"{run.name:50} {done[run]:,} of {run.num_steps:,}, {state}"
            for run, state in states.items()
            if state != self._states[run]
        ]
        self._states, self._due = states, now + STATUS_INTERVAL
        total = sum(done.values())
        left = sum(run.num_steps - done[run] for run in states if run not in self._scheduler.failed)
        new = total - self._at_start
        time_left = hours_minutes(left * (now - self._started) / new) if new > 0 else "unknown"
        count = list(states.values()).count
        runs = f"{count('finished')} of {len(states)} runs finished, {count('running')} running"
        lines.append(f"{total:,} of {self._num_steps:,} steps, {runs}, time left {time_left}")
        with unwritable_ignored():
            print(*lines, sep="\n", flush=True)

    def _done_steps(self, run):
        """Steps that a run has logged so far."""
        if run in self._scheduler.finished:
            return run.num_steps
        return 0 if run.directory() is None else last_step(os.path.join(run.directory(), "train.csv"))


def hours_minutes(seconds):
    """Seconds as h:mm, rounded up to minutes: 90 -> 0:02."""
    minutes = -int(-seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02}"
