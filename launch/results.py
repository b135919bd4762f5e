"""Tables of the finished runs of a benchmark."""

import csv
import os
import shlex
import statistics

from errors import UsageError
from logger import read_csv
from storage.files import check_writable, csv_bytes, write_atomically, writing
from storage.run_dir import read_record

KEY = ("env", "setting", "seed")  # columns that tell the runs of a benchmark apart


def last_step(path):
    """`step` in the last complete row of a run's CSV file; 0 if there is no row or the file is damaged."""
    try:
        _, rows = read_csv(path)
    except UsageError:
        return 0
    return int(rows[-1]["step"]) if rows else 0


def read_table(path):
    """Rows of a table of `write_results`, list of dict of text; empty if the file is missing.

    Raises:
        UsageError: it cannot be read, or is not such a table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        if not {*KEY} <= {*(reader.fieldnames or KEY)}:
            raise ValueError("there is no column that names the runs")
        if any(None in row or not all(map(row.get, KEY)) for row in rows):
            raise ValueError("a row has too many cells, or does not name its run")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (csv.Error, ValueError) as error:
        raise UsageError(f"{path} is not a table of benchmark.py; move it") from error
    return rows


def check_results(name):
    """Check before any training that `write_results` can add to its tables. Creates results/NAME/.

    Raises:
        UsageError: a table cannot be read or written, or is damaged.
    """
    for path in _paths(name):
        read_table(path)
        check_writable(path)


def write_results(name, runs):
    """Write results/NAME/runs.csv, one row per run, and eval.csv, all their evaluations.

    Rows of other runs that are in the tables already stay. A column that only some runs have is empty for the others.

    Args:
        name: NAME.
        runs: finished runs, list of `Run`.

    Returns:
        (rows, problems): rows of these runs in runs.csv, list of dict, and {run: reason} of runs without rows, because
        their args.json or eval.csv is missing or damaged.

    Raises:
        UsageError: a table of an earlier call is damaged.
        RunError: a table cannot be written.
    """
    runs_rows, eval_rows, problems = [], [], {}
    for run in runs:
        try:
            run_row, evaluations = _rows(run)
        except UsageError as error:
            problems[run] = str(error)
            continue
        runs_rows.append(run_row)
        eval_rows += evaluations
    new_keys, tables = {_key(row) for row in runs_rows}, {}
    for path, rows in zip(_paths(name), (runs_rows, eval_rows), strict=True):
        tables[path] = [row for row in read_table(path) if _key(row) not in new_keys] + rows
    for path, rows in tables.items():
        with writing(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(path, csv_bytes(rows))
    return runs_rows, problems


def _rows(run):
    """(row of a finished run in runs.csv, its rows in eval.csv)."""
    directory = run.directory()
    record = read_record(directory)
    who = {"env": run.env, "setting": run.setting, "seed": run.seed}
    path = os.path.join(directory, "eval.csv")
    repeat = run.config.action_repeat
    evaluations = [who | row | {"simulator_step": int(row["step"]) * repeat} for row in read_csv(path)[1]]
    if not evaluations or not evaluations[-1].get("return"):
        raise UsageError(f"{path} is missing or has no last return, though the run has finished")
    starts = [record, *record["resumed"]]
    commits = dict.fromkeys(start["git_commit"] for start in starts if start.get("git_commit"))
    versions = dict.fromkeys(
        f"{package}=={version}" for start in starts for package, version in start.get("versions", {}).items()
    )
    row = {
        "return": evaluations[-1]["return"],
        "commit": " ".join(commits),
        "command": shlex.join(["python", "train.py", *run.argv]),
        "versions": " ".join(versions),
    }
    return who | row, evaluations


def _paths(name):
    return f"results/{name}/runs.csv", f"results/{name}/eval.csv"


def _key(row):
    return tuple(str(row[name]) for name in KEY)


def summary(rows):
    """The returns of the last evaluations per task and setting, as text, from the rows of `write_results`."""
    groups = {}
    for row in rows:
        groups.setdefault((row["env"], row["setting"]), []).append(float(row["return"]))
    return "\n".join(
        f"{env:28} {setting:20} median {statistics.median(v):8.1f}   " + " ".join(f"{x:.1f}" for x in v)
        for (env, setting), v in groups.items()
    )
