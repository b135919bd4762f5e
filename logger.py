"""The log of a run: CSV files, TensorBoard events, terminal lines and a progress bar."""

import csv
import os
import sys
import time
import warnings
from collections import defaultdict

import numpy as np
from termcolor import colored
from tqdm import tqdm

from errors import RunError, UsageError, unwritable_ignored
from storage.files import csv_bytes, write_atomically, writing

CSV_FILES = ("train", "eval")  # RUN_DIR/train.csv, RUN_DIR/eval.csv
LINE_INTERVAL = 1.0  # seconds between two printed train lines; short episodes would flood the terminal


def read_csv(path):
    """Read a CSV file of a run: its columns, and its rows as dicts of text.

    A last line without a line end is left out: the run was killed while writing it.

    Returns:
        (columns, rows): two empty lists if the file is missing or empty.

    Raises:
        UsageError: it cannot be read, a value is not a number, or `step` is missing.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(line for line in file if line.endswith("\n"))
            columns, rows = list(reader.fieldnames or []), list(reader)
        for row in rows:
            int(row["step"])
            for text in row.values():
                float(text or "nan")  # empty: the column was added after this row
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: it is not a CSV file of a run") from error
    return columns, rows


def check_csv(run_dir, last_step, expected_rows):
    """Check both CSV files before a run is resumed, without changing them.

    Args:
        run_dir: the run's directory.
        last_step: step of the checkpoint; later rows are ignored.
        expected_rows: `Logger.num_rows()` at that checkpoint.

    Warns:
        a file has fewer rows than at the checkpoint.

    Raises:
        UsageError: see `read_csv`.
    """
    for name in CSV_FILES:
        path = os.path.join(run_dir, f"{name}.csv")
        num_rows = sum(int(row["step"]) <= last_step for row in read_csv(path)[1])
        expected = expected_rows[name]
        if num_rows < expected:
            warnings.warn(
                f"{path} has {num_rows} rows up to step {last_step}, and had {expected} when the checkpoint was "
                f"written: {expected - num_rows} are lost",
                stacklevel=2,
            )


def train_tag(column):
    """The TensorBoard tag of a column of train.csv: train/, loss/, policy/, confidence/ or time/ and its name."""
    if column.endswith("_loss"):
        return f"loss/{column}"
    if column.startswith("share_"):
        return f"time/{column}"
    if column.startswith(("confidence", "label", "advantage")):
        return f"confidence/{column}"
    return f"{'policy' if column in ('alpha', 'entropy', 'q') else 'train'}/{column}"


class CsvLog:
    """Appends rows to a CSV file. A new column is added to the header; in earlier rows its cells are empty.

    Args:
        path: the file; it may exist.
        last_step: existing rows of later steps are dropped, and a last line without a line end.

    Attributes:
        num_rows: rows in the file.

    Raises:
        UsageError: the file is not a CSV file of a run.
        RunError: it cannot be written; its content is unchanged.
    """

    def __init__(self, path, last_step=0):
        self._path = path
        self._columns, self.num_rows = [], 0
        if os.path.exists(path):
            columns, rows = read_csv(path)
            self._replace(columns, [row for row in rows if int(row["step"]) <= last_step])

    def write(self, row):
        """Append row, a dict with a `step`, and close the file, so that a killed process loses no row."""
        new = [name for name in row if name not in self._columns]
        if new:
            self._replace(self._columns + new, read_csv(self._path)[1] if self._columns else [])
        with writing(self._path), open(self._path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)
        self.num_rows += 1

    def sync(self):
        """Write all rows through to the disk (fsync)."""
        if self._columns:
            with writing(self._path), open(self._path, "rb+") as file:
                os.fsync(file.fileno())

    def _replace(self, columns, rows):
        write_atomically(self._path, csv_bytes(rows, columns))
        self._columns, self.num_rows = columns, len(rows)


class MeanMetrics:
    """Means over the recorded updates of an episode, without NaN entries (no state of that kind in the batch)."""

    def __init__(self):
        self._values = defaultdict(list)

    def record(self, metrics, step):
        """Add the metrics of one update. Copying them to the CPU waits for the device.

        Args:
            metrics: tensors by name, as `SACAgent.update` returns them.
            step: for the error message.

        Raises:
            RunError: a loss is not finite.
        """
        for name, value in metrics.items():
            value = value.cpu().numpy()
            if name.endswith("_loss") and not np.isfinite(value):
                raise RunError(f"step {step}: training has diverged: {name} is {value}")
            self._values[name].append(value)

    def pop(self):
        """The means since the last call, name -> float; entries of vectors are named name_2 .. name_h."""
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
        run_dir: directory of the files.
        args: flags that tell the run apart, a dict; TensorBoard shows them as hyperparameters.
        total_steps: number of steps of the run, for the progress bar.
        save_tb: whether to write TensorBoard events.
        last_step: step of the checkpoint that the run resumes from; rows of later steps are dropped. Call `check_csv`
            first.

    Raises:
        UsageError: see `read_csv`.
        RunError: a file cannot be written.
    """

    def __init__(self, run_dir, args, total_steps, save_tb, last_step=0):
        self._events = os.path.join(run_dir, "events.out.tfevents.*")
        self._train_csv = CsvLog(os.path.join(run_dir, "train.csv"), last_step)
        self._eval_csv = CsvLog(os.path.join(run_dir, "eval.csv"), last_step)
        self._updates = MeanMetrics()
        self._writer = None
        if save_tb:
            with writing(self._events):
                self._open_events(run_dir, args, last_step)
        # disable=None: no bar where the terminal is a file or a pipe.
        self._bar = tqdm(total=total_steps, initial=last_step, unit="step", disable=None, dynamic_ncols=True)
        if not self._bar.disable:
            self._bar._time = time.monotonic  # tqdm's own clock is the wall clock, which may be set back
            self._bar.start_t = self._bar.last_print_t = time.monotonic()
        self._last_line = -np.inf

    def num_rows(self):
        """{"train": n, "eval": m}: number of rows of both CSV files, stored in checkpoints for `check_csv`."""
        return {"train": self._train_csv.num_rows, "eval": self._eval_csv.num_rows}

    def step(self):
        """Advance the progress bar by one environment step."""
        self._bar.update()

    def announce(self, what):
        """Show text in the progress bar until the next eval row."""
        self._bar.set_description(what)

    def record_update(self, metrics, step):
        """Add the metrics of one update to the next train row; see `MeanMetrics.record`."""
        self._updates.record(metrics, step)

    def log_train(self, row, lengths, confidences):
        """Log a train row at the end of an episode.

        Args:
            row: step, episode, return, length, duration, steps_per_second, k, and share_* of the loop's sections.
            lengths: executed length k of each plan of the episode.
            confidences: confidences of each plan, (plans, h).
        """
        row = row | self._updates.pop()
        self._train_csv.write(row)
        self._scalars(row, train_tag)
        if self._writer:
            # Not train/k: TensorBoard drops a histogram that has the tag of a scalar.
            h = np.shape(confidences)[1]
            with writing(self._events):
                self._writer.add_histogram("plans/k", np.asarray(lengths), row["step"], bins=np.arange(0.5, h + 1))
                if h > 1:
                    self._writer.add_histogram("plans/confidence", np.asarray(confidences)[:, 1:], row["step"])
        self._bar.set_postfix({"return": f"{row['return']:.1f}", "k": f"{row['k']:.2f}"}, refresh=False)
        if time.perf_counter() - self._last_line > LINE_INTERVAL:
            self._last_line = time.perf_counter()
            self._print("train", "yellow", row, ("episode", "step", "return", "k", "steps_per_second", "alpha"))

    def log_eval(self, row):
        """Log an eval row: step, return, k, return_1, return_2, ..."""
        self._bar.set_description()
        self._eval_csv.write(row)
        returns = {name: value for name, value in row.items() if name.startswith("return_")}
        shown = {name: value for name, value in row.items() if name not in returns}
        if returns:  # one chart of the spread instead of one chart per episode
            shown["return_std"] = float(np.std(list(returns.values())))
        self._scalars(shown, lambda name: f"eval/{name}")
        self._print("eval", "green", row, ("step", "return", "k"))

    def print(self, text):
        """Print a line above the progress bar."""
        with unwritable_ignored():
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def sync(self):
        """Write both CSV files through to the disk (fsync), as a checkpoint's row counts require."""
        self._train_csv.sync()
        self._eval_csv.sync()

    def close(self):
        """Close the TensorBoard file and the progress bar."""
        if self._writer:
            with writing(self._events):
                self._writer.file_writer.add_summary(self._session_end)
                self._writer.close()
        self._bar.close()

    def _open_events(self, run_dir, args, last_step):
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        # TensorBoard ignores events of earlier files from purge_step on.
        self._writer = SummaryWriter(run_dir, purge_step=last_step + 1)
        # Written at the start, so that unfinished runs are in the table, too; its metric is the last eval/return.
        flags = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in args.items()}
        start, info, self._session_end = hparams(flags, {"eval/return": 0.0})
        self._writer.file_writer.add_summary(start)
        self._writer.file_writer.add_summary(info)

    def _scalars(self, row, tag_of):
        if self._writer:
            with writing(self._events):
                for name, value in row.items():
                    if name != "step":
                        self._writer.add_scalar(tag_of(name), value, row["step"])
                self._writer.flush()

    def _print(self, label, colour, row, names):
        shown = {name: row[name] for name in names if name in row}
        fields = (f"{name} {value if isinstance(value, int) else f'{value:.6g}'}" for name, value in shown.items())
        self.print(colored(f"{label:<5}", colour) + " | " + " | ".join(fields))
