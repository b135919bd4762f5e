"""What a run writes while it trains: CSV files, TensorBoard events, terminal lines and a progress bar."""

import csv
import os
import sys
import time
from collections import defaultdict

import numpy as np
from termcolor import colored
from tqdm import tqdm

LINE_INTERVAL = 1.0  # seconds between two printed train lines; short episodes would flood the terminal


class CsvLog:
    """Appends rows to a CSV file. A column that first appears late is added to the header, earlier rows stay empty."""

    def __init__(self, path):
        self._path = path
        self._columns = []

    def write(self, row):
        """Append row, a dict, and flush it to disk."""
        new = [name for name in row if name not in self._columns]
        if new:
            self._extend(new)
        with open(self._path, "a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _extend(self, new):
        rows = []
        if self._columns:
            with open(self._path, newline="") as file:
                rows = list(csv.DictReader(file))
        self._columns = self._columns + new
        scratch = f"{self._path}.tmp"
        with open(scratch, "w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(scratch, self._path)


class MeanMetrics:
    """Means over the recorded updates of an episode; NaN (nothing seen) does not count."""

    def __init__(self):
        self._values = defaultdict(list)

    def record(self, metrics):
        """Take in the tensors that `SACAgent.update` returned: the one place that waits for the device."""
        for name, value in metrics.items():
            self._values[name].append(value.cpu().numpy())

    def pop(self):
        """The means since the last call as a flat dict; a vector's entries are named after planned steps 2..h."""
        means = {}
        for name, values in self._values.items():
            values = np.ma.masked_invalid(values).mean(0).filled(np.nan) if np.ndim(values[0]) else np.mean(values)
            if np.ndim(values):
                means |= {f"{name}_{step}": float(value) for step, value in enumerate(values, start=2)}
            else:
                means[name] = float(values)
        self._values.clear()
        return means


class Logger:
    """One run's train.csv, eval.csv, TensorBoard events, terminal lines and progress bar.

    Args:
        run_dir: where files go.
        args: the run's flags, a dict, shown by TensorBoard as hyperparameters.
        total_steps: of the run, for the progress bar.
        save_tb: whether to write TensorBoard events.
    """

    def __init__(self, run_dir, args, total_steps, save_tb):
        self._train_csv = CsvLog(os.path.join(run_dir, "train.csv"))
        self._eval_csv = CsvLog(os.path.join(run_dir, "eval.csv"))
        self._updates = MeanMetrics()
        self._writer = None
        if save_tb:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams

            self._writer = SummaryWriter(run_dir)
            # Written first, so that an unfinished run can be compared too; the metric is the last eval/return.
            flags = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in args.items()}
            self._session_start, self._session_info, self._session_end = hparams(flags, {"eval/return": 0.0})
            self._writer.file_writer.add_summary(self._session_start)
            self._writer.file_writer.add_summary(self._session_info)
        # disable=None: no bar where the terminal is a file or a pipe.
        self._bar = tqdm(total=total_steps, unit="step", disable=None, dynamic_ncols=True)
        self._last_line = -np.inf

    def step(self):
        """Advance the progress bar by one environment step."""
        self._bar.update()

    def record_update(self, metrics):
        """Take in the metrics of one update for the next train row."""
        self._updates.record(metrics)

    def log_train(self, row, lengths, confidences):
        """A train row, at the end of an episode.

        Args:
            row: step, episode, return, length, duration, steps_per_second, k.
            lengths: k of each plan of the episode.
            confidences: (plans, h).
        """
        row = row | self._updates.pop()
        self._train_csv.write(row)
        self._scalars("train", row)
        if self._writer and len(lengths):
            # Not train/k: TensorBoard drops a histogram that shares its tag with a scalar.
            h = np.shape(confidences)[1]
            self._writer.add_histogram("plans/k", np.asarray(lengths), row["step"], bins=np.arange(0.5, h + 1))
            if h > 1:
                self._writer.add_histogram("plans/confidence", np.asarray(confidences)[:, 1:], row["step"])
        self._bar.set_postfix({"return": f"{row['return']:.1f}", "k": f"{row['k']:.2f}"}, refresh=False)
        if time.perf_counter() - self._last_line > LINE_INTERVAL:
            self._last_line = time.perf_counter()
            self._print("train", "yellow", row, ("episode", "step", "return", "k", "steps_per_second", "alpha"))

    def log_eval(self, row):
        """An eval row: step, return, return_1.., k."""
        self._eval_csv.write(row)
        self._scalars("eval", row)
        self._print("eval", "green", row, ("step", "return", "k"))

    def print(self, text):
        """A line on the terminal that does not tear the progress bar."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self):
        """Finish the TensorBoard file and the bar."""
        if self._writer:
            self._writer.file_writer.add_summary(self._session_end)
            self._writer.close()
        self._bar.close()

    def _scalars(self, group, row):
        if self._writer:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(f"{group}/{name}", value, row["step"])

    def _print(self, label, colour, row, names):
        fields = (f"{name} {row[name]:.6g}" for name in names if name in row)
        self.print(colored(f"{label:<5}", colour) + " | " + " | ".join(fields))
