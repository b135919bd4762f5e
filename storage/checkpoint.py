"""Checkpoints: written atomically, verified when read, and free of code.

RUN_DIR/checkpoints/ holds

    <step>.checkpoint           a line of JSON (format, size and SHA-256 of the rest), then torch.save of plain data
    replay-<from>-<to>.rows     the rows of the replay buffer that were new at a checkpoint, float32, never rewritten

A checkpoint names the row files that it needs. The newest two checkpoints are kept; row files that neither needs are
deleted. All writes are atomic (`storage.files.write_atomically`).
"""

import hashlib
import json
import os
import re
from contextlib import contextmanager

import numpy as np

from errors import UsageError
from storage import plain_data
from storage.files import write_atomically, writing

FORMAT = 4
KEPT = 2


class CheckpointError(UsageError):
    """A checkpoint cannot be loaded; the message says why."""


@contextmanager
def restoring(run_dir):
    """Context for code that restores a checkpoint's state.

    Raises:
        CheckpointError: the state has the wrong structure, types or sizes.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the newest checkpoint of {run_dir} does not hold the state of such a run") from error


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run_dir: the run's directory.
    """

    def __init__(self, run_dir):
        self.directory = os.path.join(run_dir, "checkpoints")
        self._good = {}  # {intact checkpoint: its row files (first, stop, name, sha256)}, newest last

    def save(self, step, state, buffer):
        """Write a checkpoint. Call it only between two episodes, when all rows of the buffer are final.

        Args:
            step: steps so far.
            state: plain data (dicts, lists, tensors, numbers, strings): everything but the buffer's rows.
            buffer: `ReplayBuffer`.

        Raises:
            RunError: the checkpoint cannot be written; older ones are untouched.
        """
        with writing(self.directory):
            os.makedirs(self.directory, exist_ok=True)
        files = list(self._good.values())[-1] if self._good else []
        rows = buffer.live_rows(since=files[-1]["stop"] if files else 0)
        files = [file for file in files if file["stop"] > buffer.live_rows().start]
        if len(rows):
            data = buffer.read(rows).tobytes()
            name = f"replay-{rows.start:012d}-{rows.stop:012d}.rows"
            self._write(name, data)
            files.append(
                {"first": rows.start, "stop": rows.stop, "name": name, "sha256": hashlib.sha256(data).hexdigest()}
            )
        content = plain_data.to_bytes({"step": step, "row_files": files, "state": state})
        header = {"format": FORMAT, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        name = f"{step:012d}.checkpoint"
        self._write(name, json.dumps(header).encode() + b"\n" + content)
        self._good.pop(name, None)  # re-insert as the newest
        self._good[name] = files
        self._clean()

    def load(self, buffer=None):
        """Read the newest intact checkpoint.

        Args:
            buffer: `ReplayBuffer` to fill with the checkpoint's rows, or None.

        Returns:
            (step, state, problems): problems is a list of messages about newer checkpoints that are damaged.

        Raises:
            CheckpointError: there is no intact checkpoint.
        """
        problems = []
        for name in self._names():
            try:
                content = self._read(name)
                files = content["row_files"] if buffer is not None else []
                rows = [self._read_rows(file, buffer) for file in files]
            except CheckpointError as error:
                if str(error) not in problems:  # two checkpoints can need the same damaged row file
                    problems.append(str(error))
                continue
            for file, data in zip(files, rows, strict=True):
                oldest_kept = max(file["first"], file["stop"] - buffer.capacity)
                buffer.restore(range(oldest_kept, file["stop"]), data[oldest_kept - file["first"] :])
            self._good = {name: content["row_files"]}
            return content["step"], content["state"], problems
        raise CheckpointError("; ".join(problems) or f"{self.directory} holds no checkpoint")

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _write(self, name, data):
        path = self._path(name)
        if os.path.isdir(path):  # not a checkpoint, and the run could never save under this name
            with writing(path):
                os.rename(path, f"{path}.set-aside")
        write_atomically(path, data)

    def _names(self):
        """File names of the checkpoints, newest first."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"{self.directory} cannot be read: {error.strerror}") from error
        return sorted((name for name in names if re.fullmatch(r"\d+\.checkpoint", name)), reverse=True)

    def _clean(self):
        """Delete old checkpoints, row files that no kept one needs, and leftovers of interrupted saves."""
        for name in list(self._good)[:-KEPT]:
            del self._good[name]
        needed = {*self._good, *(file["name"] for files in self._good.values() for file in files)}
        with writing(self.directory):
            for name in os.listdir(self.directory):
                is_ours = re.search(r"\.(checkpoint|rows)(\.tmp)?$", name) and os.path.isfile(self._path(name))
                if is_ours and name not in needed:
                    os.remove(self._path(name))

    def _read(self, name):
        path = self._path(name)
        header, _, content = self._bytes(path).partition(b"\n")
        if not header:
            raise CheckpointError(f"{path} is empty")
        try:
            header = json.loads(header)
            version, size, sha256 = header["format"], header["size"], header["sha256"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} is not a checkpoint, or its first line is damaged") from error
        if version != FORMAT:
            raise CheckpointError(f"{path} has format {version!r}; this version reads format {FORMAT}")
        self._verify(path, content, size, sha256)
        try:
            content = plain_data.from_bytes(content)
        except ValueError as error:
            raise CheckpointError(f"{path} is not plain data and was not loaded") from error
        if not _is_checkpoint(content):
            raise CheckpointError(f"{path} is not a checkpoint of a run")
        return content

    def _read_rows(self, file, buffer):
        path = self._path(file["name"])
        width = buffer.rows.shape[1]
        data = self._bytes(path)
        size = 4 * width * (file["stop"] - file["first"])
        self._verify(path, data, size, file["sha256"], or_else=", or the environment has other sizes")
        return np.frombuffer(data, np.float32).reshape(-1, width)

    @staticmethod
    def _bytes(path):
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is missing") from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error

    @staticmethod
    def _verify(path, data, size, sha256, or_else=""):
        if len(data) != size:
            raise CheckpointError(f"{path} has {len(data)} bytes instead of {size}: it is incomplete{or_else}")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CheckpointError(f"{path} is damaged: its checksum differs")


def _is_checkpoint(content):
    """Whether content has the structure that `Checkpoints.save` writes, with row files that leave no gap."""
    if not (isinstance(content, dict) and content.keys() == {"step", "row_files", "state"}):
        return False
    step, files = content["step"], content["row_files"]
    if not (_is_count(step) and isinstance(files, list) and isinstance(content["state"], dict)):
        return False
    return all(map(_is_row_file, files)) and all(
        one["stop"] == other["first"] for one, other in zip(files, files[1:], strict=False)
    )


def _is_row_file(file):
    return (
        isinstance(file, dict)
        and file.keys() == {"first", "stop", "name", "sha256"}
        and _is_count(file["first"])
        and _is_count(file["stop"])
        and file["first"] < file["stop"]
        and isinstance(file["name"], str)
        and re.fullmatch(r"replay-\d+-\d+\.rows", file["name"]) is not None  # not a path to elsewhere
    )


def _is_count(value):
    return type(value) is int and value >= 0
