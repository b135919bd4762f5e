"""Execute the runs of a benchmark as processes of this machine, which end with their parent process."""

import os
import runpy
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def start_train(argv, log, threads):
    """Start train.py as a process.

    It ends with this process, even if that is killed with SIGKILL: else it would keep the run's directory locked, and
    no signal would be forwarded to it.

    Args:
        argv: command line of train.py.
        log: file to append the process's output to.
        threads: number of OpenMP threads.

    Returns:
        subprocess.Popen.
    """
    command = [sys.executable, os.path.abspath(__file__), os.path.join(ROOT, "train.py"), *argv]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with open(log, "a") as file:
        # A session of its own: Ctrl-C reaches only this process, which forwards it once.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True
        )


class LocalJobs:
    """Processes of this machine, which share its cores.

    Args:
        slots: number of parallel runs; None for one per core.

    Attributes:
        threads: threads per run.
        delay: seconds after the end of a run until its files can be read here.
    """

    delay = 0

    def __init__(self, slots):
        from launch.process import num_cores  # not above: this file is also a script, and runs without the package

        self.slots = slots or num_cores()
        self.threads = max(1, num_cores() // self.slots)

    def start(self, argv, config, log):
        """Start train.py.

        Args:
            argv: command line of train.py.
            config: `Config` of the same flags.
            log: file to append its output to.

        Returns:
            a job: poll() returns the exit status of train.py, or None while it runs; terminate() sends SIGTERM.
        """
        return start_train(argv, log, self.threads)


def _end_with_parent():
    os.read(0, 1)  # blocks until the other end of the pipe is closed: the parent process has ended
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    sys.path[0] = ROOT  # as for `python train.py`
    runpy.run_path(sys.argv[0], run_name="__main__")
