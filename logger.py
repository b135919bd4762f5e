"""What a run writes while it trains: CSV files, TensorBoard events, terminal lines and a progress bar."""

import csv
import io
import os
import sys
import time
import warnings
from collections import defaultdict

import numpy as np
from termcolor import colored
from tqdm import tqdm

from errors import RunError, UsageError
from storage.files import write_atomically, writing

CSV_FILES = ("train", "eval")  # RUN_DIR/train.csv, RUN_DIR/eval.csv
LINE_INTERVAL = 1.0  # seconds between two printed train lines; short episodes would flood the terminal


def read_csv(path):
    """A CSV file that a run has written: its columns, and its rows as dicts of text.

    A last line without its end is left out: it was being written when the run ended.

    Returns:
        (columns, rows): two empty lists if there is no file, or an empty one.

    Raises:
        UsageError: it cannot be read, or a row does not consist of numbers, the step first of all.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(line for line in file if line.endswith("\n"))
            columns, rows = list(reader.fieldnames or []), list(reader)
        for row in rows:
            int(row["step"])
            for text in row.values():
                float(text or "nan")  # empty: the column is newer than the row
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: it is no CSV file of a run") from error
    return columns, rows


def check_csv(run_dir, last_step, expected_rows=None):
    """Before a run is continued: check both CSV files, and change nothing.

    Args:
        run_dir: the run's directory.
        last_step: of the checkpoint; only rows up to it count.
        expected_rows: what `Logger.num_rows` gave at that checkpoint; None for older checkpoints.

    Warns:
        a file has fewer rows than it had then.

    Raises:
        UsageError: see `read_csv`.
    """
    for name in CSV_FILES:
        path = os.path.join(run_dir, f"{name}.csv")
        num_rows = sum(int(row["step"]) <= last_step for row in read_csv(path)[1])
        expected = (expected_rows or {}).get(name, 0)
        if num_rows < expected:
            warnings.warn(
                f"{path} has {num_rows} rows up to step {last_step}, and had {expected} when the checkpoint was "
                f"written: {expected - num_rows} are lost",
                stacklevel=2,
            )


def train_tag(column):
    """The TensorBoard tag of a column of train.csv: train/, loss/, policy/ or confidence/ and its name."""
    if column.endswith("_loss"):
        return f"loss/{column}"
    if column.startswith(("confidence", "label", "advantage")):
        return f"confidence/{column}"
    return f"{'policy' if column in ('alpha', 'entropy', 'noise_correlation', 'q') else 'train'}/{column}"


class CsvLog:
    """Appends rows to a CSV file. A column that first appears late is added to the header, earlier rows stay empty.

    Args:
        path: the file. Rows that it already has are kept up to those of `last_step`; a line that was not written to
            its end is dropped.
        last_step: see path.

    Attributes:
        num_rows: in the file.

    Raises:
        UsageError: the file is none of a run.
        RunError: it cannot be written; it is as before then.
    """

    def __init__(self, path, last_step=0):
        self._path = path
        self._columns, self.num_rows = [], 0
        if os.path.exists(path):
            columns, rows = read_csv(path)
            self._replace(columns, [row for row in rows if int(row["step"]) <= last_step])

    def write(self, row):
        """Append row, a dict, and hand it to the system."""
        new = [name for name in row if name not in self._columns]
        if new:
            self._replace(self._columns + new, read_csv(self._path)[1] if self._columns else [])
        with writing(self._path), open(self._path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)
        self.num_rows += 1

    def sync(self):
        """Wait until all rows are on the disk."""
        if self._columns:
            with writing(self._path), open(self._path, "rb+") as file:
                os.fsync(file.fileno())

    def _replace(self, columns, rows):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self._path, text.getvalue().encode())
        self._columns, self.num_rows = columns, len(rows)


class MeanMetrics:
    """Means over the recorded updates of an episode; NaN (nothing seen) does not count."""

    def __init__(self):
        self._values = defaultdict(list)

    def record(self, metrics, step):
        """Take in the tensors that `SACAgent.update` returned: the one place that waits for the device.

        Raises:
            RunError: a loss is not finite.
        """
        for name, value in metrics.items():
            value = value.cpu().numpy()
            if name.endswith("_loss") and not np.isfinite(value):
                raise RunError(f"step {step}: training has diverged: {name} is {value}")
            self._values[name].append(value)

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
        last_step: of the checkpoint that the run continues from; what was logged after it is dropped. Call `check_csv`
            before.

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
        """{"train": n, "eval": m}: the rows of both CSV files, for a checkpoint; see `check_csv`."""
        return {"train": self._train_csv.num_rows, "eval": self._eval_csv.num_rows}

    def step(self):
        """Advance the progress bar by one environment step."""
        self._bar.update()

    def announce(self, what):
        """Show in the progress bar what keeps it from advancing; the next row takes it away."""
        self._bar.set_description(what)

    def record_update(self, metrics, step):
        """Take in the metrics of one update, at a step, for the next train row."""
        self._updates.record(metrics, step)

    def log_train(self, row, lengths, confidences):
        """A train row, at the end of an episode.

        Args:
            row: step, episode, return, length, duration, steps_per_second, k.
            lengths: k of each plan of the episode.
            confidences: (plans, h).
        """
        row = row | self._updates.pop()
        self._train_csv.write(row)
        self._scalars(row, train_tag)
        if self._writer and len(lengths):
            # Not train/k: TensorBoard drops a histogram that shares its tag with a scalar.
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
        """An eval row: step, return, return_1.., k."""
        self._bar.set_description()
        self._eval_csv.write(row)
        returns = {name: value for name, value in row.items() if name.startswith("return_")}
        shown = {name: value for name, value in row.items() if name not in returns}
        if returns:  # one chart for the spread instead of one per episode
            shown["return_std"] = float(np.std(list(returns.values())))
        self._scalars(shown, lambda name: f"eval/{name}")
        self._print("eval", "green", row, ("step", "return", "k"))

    def print(self, text):
        """A line on the terminal that does not tear the progress bar."""
        try:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read it has gone, as in `train.py | head`: the run goes on without
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def sync(self):
        """Wait until everything logged so far is on the disk, where a checkpoint may rely on it."""
        self._train_csv.sync()
        self._eval_csv.sync()

    def close(self):
        """Finish the TensorBoard file and the bar."""
        if self._writer:
            with writing(self._events):
                self._writer.file_writer.add_summary(self._session_end)
                self._writer.close()
        self._bar.close()

    def _open_events(self, run_dir, args, last_step):
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        # TensorBoard hides what earlier files hold from purge_step on.
        self._writer = SummaryWriter(run_dir, purge_step=last_step + 1 if last_step else None)
        # Written first, so that an unfinished run can be compared too; the metric is the last eval/return.
        first = ("env", "seed", "chunk_size")  # the table of hyperparameters opens on these
        args = {name: args[name] for name in first if name in args} | args
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
        fields = (f"{name} {row[name]:.6g}" for name in names if name in row)
        self.print(colored(f"{label:<5}", colour) + " | " + " | ".join(fields))
