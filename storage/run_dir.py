"""The directory of a run: its name, its lock, and args.json with flags, versions and commits."""

import glob
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

import filelock

from config import as_json, parse_saved
from errors import UsageError
from storage.files import json_bytes, write_atomically

PACKAGES = ("torch", "numpy", "mujoco", "dm_control", "gymnasium")
# {key of args.json: type}; other keys may be missing.
RECORD = {"args": dict, "versions": dict, "resumed": list, "finished": int}


def _stem(config):
    env_name = re.sub(r"[^\w.-]", "_", config.env)
    return f"{config.experiment}-{env_name}-h{config.chunk_size}-s{config.seed}-"


def make_run_dir(config):
    """Create a new directory under exp/, for this run alone; returns its path.

    Raises:
        UsageError: the directory cannot be created.
    """
    name = _stem(config) + time.strftime("%Y%m%d-%H%M%S")
    attempt = 1
    while True:
        run_dir = os.path.join("exp", name if attempt == 1 else f"{name}-{attempt}")
        try:
            os.makedirs(run_dir)  # fails if it exists: of two runs that start at once, one takes the next name
            return run_dir
        except OSError as error:
            if not os.path.isdir(run_dir):
                raise UsageError(f"cannot create {run_dir}: {error.strerror}") from error
            attempt += 1


def find_run(config):
    """The newest run under exp/ with the same experiment, env, chunk size and seed that has a checkpoint or policy.pt.

    A run without a checkpoint that has policy.pt is a finished one.

    Returns:
        path of its directory, or None.
    """
    stem = glob.escape(os.path.join("exp", _stem(config)))
    files = ("checkpoints/*.checkpoint", "policy.pt")
    found = (d for d in glob.glob(f"{stem}*") if any(glob.glob(f"{glob.escape(d)}/{file}") for file in files))
    return max(found, default=None)


def read_config(run_dir):
    """The `Config` of a run.

    Raises:
        UsageError: run_dir is not a run directory, or args.json has flags or values that `Config` does not allow.
    """
    try:
        return parse_saved(read_flags(run_dir))
    except ValueError as error:
        raise UsageError(f"{os.path.join(run_dir, 'args.json')} is of another version or damaged: {error}") from error


def read_flags(run_dir):
    """{name: value} of a run's flags, as read from args.json. Other versions may have other flags.

    Raises:
        UsageError: run_dir is not a run directory.
    """
    return read_record(run_dir)["args"]


def read_record(run_dir):
    """The content of args.json: args, command, versions, git_commit, resumed, finished.

    Raises:
        UsageError: args.json is missing or damaged.
    """
    path = os.path.join(run_dir, "args.json")
    try:
        with open(path) as file:
            record = json.load(file)
    except OSError as error:
        raise UsageError(f"{run_dir} is not the directory of a run: no args.json there can be read") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(record, dict) or "args" not in record:
        raise UsageError(f"{path} is damaged: it holds no flags")
    for name, kind in RECORD.items():
        record.setdefault(name, kind())  # older versions did not write all of them
        if not isinstance(record[name], kind):
            raise UsageError(f"{path} is damaged: {name!r} has the wrong type")
    if not all(isinstance(start, dict) for start in record["resumed"]):
        raise UsageError(f"{path} is damaged: 'resumed' holds what is no start of a run")
    return record


@contextmanager
def lock(run_dir, wait=0):
    """Lock a directory against other processes. If this process is killed, the system releases the lock.

    Args:
        run_dir: directory; the lock is its file "lock".
        wait: seconds to wait while another process holds the lock.

    Raises:
        UsageError: another process holds the lock, or the directory cannot be written to.
    """
    held = filelock.FileLock(os.path.join(run_dir, "lock"))
    try:
        held.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise UsageError(f"another process is using {run_dir}") from error
    except OSError as error:
        raise UsageError(f"cannot write to {run_dir}: {error.strerror}") from error
    try:
        yield
    finally:
        held.release()


def versions():
    """{package: version} of Python and of the packages that results depend on."""
    return {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in PACKAGES}


def record_start(run_dir, config, update, resumed_at=None):
    """Write args.json: all flags, and command, versions and git commit of each start of the run.

    Args:
        run_dir: the run's directory.
        config: `Config`.
        update: how updates are computed, in words.
        resumed_at: step at which the run is resumed; None for a new run.

    Raises:
        RunError: args.json cannot be written.
    """
    command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    start = {"command": command, "versions": versions(), "git_commit": _git_commit(), "update": update}
    record = {"args": as_json(config), **start, "resumed": [], "finished": 0}
    if resumed_at is not None:
        record = read_record(run_dir) | {"args": as_json(config)}
        record["resumed"].append({"step": resumed_at, **start})
    _write_record(run_dir, record)


def record_update(run_dir, update):
    """Replace in args.json how the latest start computes its updates, in words."""
    record = read_record(run_dir)
    latest = record["resumed"][-1] if record["resumed"] else record
    latest["update"] = update
    _write_record(run_dir, record)


def record_end(run_dir, step):
    """Record in args.json that the run has finished, at this step."""
    _write_record(run_dir, read_record(run_dir) | {"finished": step})


def finished_steps(run_dir):
    """The step at which the run last finished; 0 if it never has."""
    return read_record(run_dir)["finished"]


def _git_commit():
    """The commit of this package, with suffix -dirty if files are changed; None if git does not tell."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        return subprocess.run(describe, cwd=root, capture_output=True, text=True).stdout.strip() or None
    except OSError:  # git is not installed
        return None


def _write_record(run_dir, record):
    write_atomically(os.path.join(run_dir, "args.json"), json_bytes(record))
