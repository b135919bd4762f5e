"""Checkpoints: atomic, verified, and without any code in them.

RUN_DIR/checkpoints/ holds

    <step>.checkpoint           a line of JSON (format, size and SHA-256 of the rest), then torch.save of plain data
    replay-<from>-<to>.rows     the rows of the replay buffer that were new at a checkpoint, float32, never rewritten

A checkpoint names the row files that it needs. The newest two checkpoints are kept; row files that neither needs are
deleted. A file is written beside its target, flushed to the disk and renamed: at any instant there is a whole one.
"""

import hashlib
import io
import json
import os
import pickle
import re

import numpy as np
import torch

from errors import UsageError
from storage.files import write_atomically, writing

FORMAT = 2
KEPT = 2


class CheckpointError(UsageError):
    """A checkpoint cannot be loaded; the text says why."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run_dir: the run's directory.
    """

    def __init__(self, run_dir):
        self.directory = os.path.join(run_dir, "checkpoints")
        self._good = {}  # row files of each checkpoint known to be whole, newest last: first, stop, name, sha256

    def save(self, step, state, buffer):
        """Write a checkpoint. Call it between two episodes only: a row of the buffer is final then.

        Args:
            step: environment steps so far.
            state: dicts, lists, tensors, numbers, strings; everything but the buffer's rows.
            buffer: `ReplayBuffer`.

        Raises:
            RunError: it could not be written; the ones before are untouched.
        """
        with writing(self.directory):
            os.makedirs(self.directory, exist_ok=True)
        files = list(self._good.values())[-1] if self._good else []
        rows = buffer.live_rows(since=files[-1]["stop"] if files else 0)
        files = [file for file in files if file["stop"] > buffer.live_rows().start]
        if len(rows):
            data = buffer.read(rows).tobytes()
            name = f"replay-{rows.start:012d}-{rows.stop:012d}.rows"
            write_atomically(self._path(name), data)
            files.append(
                {"first": rows.start, "stop": rows.stop, "name": name, "sha256": hashlib.sha256(data).hexdigest()}
            )
        content = io.BytesIO()
        torch.save({"step": step, "row_files": files, "state": state}, content)
        content = content.getvalue()
        header = {"format": FORMAT, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        name = f"{step:012d}.checkpoint"
        write_atomically(self._path(name), json.dumps(header).encode() + b"\n" + content)
        self._good.pop(name, None)  # to the end of the order
        self._good[name] = files
        self._clean()

    def load(self, buffer=None):
        """Read the newest checkpoint that is whole, and fill the buffer, if one is given, with its rows.

        Returns:
            (step, state, what was wrong with newer checkpoints: a list of sentences).

        Raises:
            CheckpointError: there is none.
        """
        problems = []
        for name in self._names():
            try:
                content = self._read(name)
                files = content["row_files"] if buffer else []
                rows = [self._read_rows(file, buffer) for file in files]
            except CheckpointError as error:
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

    def _names(self):
        """Checkpoints, newest first."""
        if not os.path.isdir(self.directory):
            return []
        return sorted((n for n in os.listdir(self.directory) if re.fullmatch(r"\d+\.checkpoint", n)), reverse=True)

    def _clean(self):
        """Delete what no kept checkpoint needs, and what an interrupted save left."""
        for name in list(self._good)[:-KEPT]:
            del self._good[name]
        needed = {*self._good, *(file["name"] for files in self._good.values() for file in files)}
        for name in os.listdir(self.directory):
            if name not in needed and re.search(r"\.(checkpoint|rows)(\.tmp)?$", name):
                os.remove(self._path(name))

    def _read(self, name):
        path = self._path(name)
        with open(path, "rb") as file:
            header, content = file.readline(1000), file.read()
        if not header:
            raise CheckpointError(f"{path} is empty")
        try:
            header = json.loads(header)
            version, size, sha256 = header["format"], header["size"], header["sha256"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} is not a checkpoint, or its first line is damaged") from error
        if version != FORMAT:
            raise CheckpointError(f"{path} has format {version}; this version reads format {FORMAT}")
        self._verify(path, content, size, sha256)
        try:
            content = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise CheckpointError(f"{path} holds something else than data and was not loaded") from error
        if not (isinstance(content, dict) and content.keys() == {"step", "row_files", "state"}):
            raise CheckpointError(f"{path} is not a checkpoint of a run")
        return content

    def _read_rows(self, file, buffer):
        path = self._path(file["name"])
        width = buffer.rows.shape[1]
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except FileNotFoundError as error:
            raise CheckpointError(f"{path} is missing") from error
        self._verify(path, data, 4 * width * (file["stop"] - file["first"]), file["sha256"])
        return np.frombuffer(data, np.float32).reshape(-1, width)

    @staticmethod
    def _verify(path, data, size, sha256):
        if len(data) != size:
            raise CheckpointError(f"{path} has {len(data)} bytes instead of {size}: it is not whole")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CheckpointError(f"{path} is damaged: its checksum differs")
