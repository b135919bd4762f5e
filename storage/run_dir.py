"""The directory of a run: its name, its lock, and args.json, which says what ran there."""

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

from errors import UsageError
from storage.files import write_atomically

PACKAGES = ("torch", "numpy", "mujoco", "dm_control", "gymnasium")


def _stem(args):
    env_name = re.sub(r"[^\w.-]", "_", args.env)
    return f"{args.experiment}-{env_name}-h{args.chunk_size}-s{args.seed}-"


def make_run_dir(args):
    """A new directory under exp/ that no other run can get.

    Raises:
        UsageError: the system does not allow it.
    """
    name = _stem(args) + time.strftime("%Y%m%d-%H%M%S")
    attempt = 1
    while True:
        run_dir = os.path.join("exp", name if attempt == 1 else f"{name}-{attempt}")
        try:
            os.makedirs(run_dir)  # fails if it exists: of two runs started at once one goes on to the next name
            return run_dir
        except OSError as error:
            if not os.path.isdir(run_dir):
                raise UsageError(f"cannot create {run_dir}: {error.strerror}") from error
            attempt += 1


def find_run(args):
    """What --resume means.

    Returns:
        (directory, its flags), or (None, {}) if auto finds none.

    Raises:
        UsageError: the directory is not one of a run.
    """
    directory = args.resume
    if directory == "auto":
        stem = glob.escape(os.path.join("exp", _stem(args)))
        found = sorted(
            d for d in glob.glob(f"{stem}*") if glob.glob(os.path.join(glob.escape(d), "checkpoints", "*.c*"))
        )
        if not found:
            return None, {}
        directory = found[-1]
    return directory, read_flags(directory)


def read_flags(run_dir):
    """The flags of a run.

    Raises:
        UsageError: the directory is not one of a run.
    """
    try:
        return dict(read_record(run_dir)["args"])
    except OSError as error:
        raise UsageError(f"{run_dir} is not the directory of a run: no args.json there can be read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{os.path.join(run_dir, 'args.json')} is damaged") from error


@contextmanager
def lock(run_dir, wait=0):
    """Keeps other processes out of a run's directory; the system unlocks it when this process ends, however it does.

    Args:
        wait: seconds to wait for another process to leave it.

    Raises:
        UsageError: another process is at work there.
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
    """Of Python and of the packages that results depend on."""
    return {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in PACKAGES}


def save_args(run_dir, args, step=0):
    """args.json: every flag, and for each start of the run its step, command, versions and the commit of this file."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    git = subprocess.run(
        describe, cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))), capture_output=True, text=True
    )
    command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    start = {"command": command, "versions": versions(), "git_commit": git.stdout.strip() or None}
    record = {"args": vars(args), **start, "resumed": [], "finished": 0}
    if step:
        record = read_record(run_dir) | {"args": vars(args)}
        record["resumed"].append({"step": step, **start})
    _write_record(run_dir, record)


def mark_finished(run_dir, step):
    """Note in args.json that the run has come to its end."""
    _write_record(run_dir, read_record(run_dir) | {"finished": step})


def finished_steps(run_dir):
    """Steps of the longest run that came to its end here, 0 if none did."""
    return read_record(run_dir).get("finished", 0)


def read_record(run_dir):
    """What args.json holds."""
    with open(os.path.join(run_dir, "args.json")) as file:
        return json.load(file)


def _write_record(run_dir, record):
    write_atomically(os.path.join(run_dir, "args.json"), json.dumps(record, indent=2).encode())
