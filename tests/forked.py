"""Runs commands of this package in forks of a process that has imported PyTorch, which spares each 3 s of imports."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_forks = multiprocessing.get_context("forkserver")
# What is slow to import, but nothing of MuJoCo: a command settles on a renderer before it imports that.
_forks.set_forkserver_preload("torch._dynamo torch.utils.tensorboard gymnasium scipy.stats matplotlib.figure".split())


def run_script(path, *flags, cwd, **environment):
    """What `subprocess.run` returns for `python PATH FLAGS` with captured output.

    Args:
        path: a file of Python that ends in `if __name__ == "__main__"`.
        flags: texts, numbers or paths.
        cwd: the folder to run it in.
        environment: variables added to those of this process.

    Raises:
        subprocess.TimeoutExpired: it was killed after 300 seconds.
    """
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory, name) for name in ("stdout", "stderr")]
        process = start_script(path, *flags, cwd=cwd, outputs=outputs, **environment)
        process.join(300)
        command = [str(path), *map(str, flags)]
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(command, 300)
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in outputs))


def start_script(path, *flags, cwd, outputs, **environment):
    """A started `multiprocessing.Process` that is `python PATH FLAGS`. It ends without finalising the interpreter.

    Args:
        path, flags, cwd, environment: as for `run_script`.
        outputs: two pathlib.Paths, of stdout and stderr.
    """
    command = [str(path), *map(str, flags)]
    process = _forks.Process(target=_become, args=(command, cwd, dict(os.environ) | environment, outputs))
    process.start()
    return process


def _become(command, cwd, environment, outputs):
    """Run the command in this fork, which is made to look like a fresh process."""
    for descriptor, name, path in zip((1, 2), ("stdout", "stderr"), outputs, strict=True):
        file = open(path, "w", buffering=1)  # noqa: SIM115 (open until the process ends)
        os.dup2(file.fileno(), descriptor)  # also for the processes that it starts
        setattr(sys, name, file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    folders = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [os.path.dirname(command[0]), *folders, *sys.path]
    sys.argv[:] = command
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runpy.run_path(command[0], run_name="__main__")
