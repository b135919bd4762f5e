"""Where the runs of a benchmark are executed: here, as processes that end with the one that started them."""

import os
import runpy
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def start_train(argv, log, threads):
    """train.py as a process that appends what it prints to the file `log`.

    It ends when this process does, even by kill -9: nobody would be left to pass a signal on to it, and it would keep
    the run's directory locked.
    """
    command = [sys.executable, os.path.abspath(__file__), os.path.join(ROOT, "train.py"), *argv]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(log, "a") as file:
        # A session of its own: the terminal's Ctrl-C comes here alone, and is passed on once.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True
        )


class LocalJobs:
    """Processes of this machine, which share its cores.

    Args:
        slots: how many at a time, None for one per core.
    """

    delay = 0  # seconds after the end of a job until its files can be seen here

    def __init__(self, slots):
        self.slots = slots or os.cpu_count()
        self.threads = max(1, os.cpu_count() // self.slots)

    def start(self, argv, config, log):
        """Start train.py.

        Args:
            argv: its command line.
            config: the same as a `Config`.
            log: file that what it prints is appended to.

        Returns:
            a job: its poll() is the exit status of train.py, None until it ends; terminate() sends SIGTERM.
        """
        return start_train(argv, log, self.threads)


def _end_with_parent():
    os.read(0, 1)  # returns when the other end of the pipe is closed, which only the end of its process does
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    sys.path[0] = ROOT  # as for `python train.py`
    runpy.run_path(sys.argv[0], run_name="__main__")
