"""Execute the runs of a benchmark as tasks of a Ray cluster."""

import os
import secrets
import signal
import socket
import time
from contextlib import suppress

from config import as_json, parse_saved
from errors import UsageError
from launch.local import ROOT, start_train
from launch.process import num_cores
from storage.run_dir import find_run, lock

LOCK_WAIT = 120  # seconds; a file server can keep the locks of a dead machine for 90 seconds
NODES_LOST = 20  # failures of nodes that a run survives


class ClusterError(ValueError):
    """A cluster that cannot be used; the message is one sentence."""


class RayJobs:
    """Ray tasks of one CPU each. If a node dies, its tasks start again on another node.

    Args:
        address: host:port or auto, a running cluster that this machine belongs to; or local, a private cluster here.
        slots: number of parallel runs; None for one per CPU of the cluster.

    Attributes:
        threads, delay: see `LocalJobs`.

    Raises:
        ClusterError: Ray is not installed, or the cluster cannot be joined.
    """

    threads = 1
    delay = 90  # a client of a file server can show an old directory for that long

    def __init__(self, address, slots):
        options = {"address": address}
        if address == "local":
            # Ray reads these when it is imported. The last one makes it listen on 127.0.0.1 only.
            token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ |= token | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
            options |= {"num_cpus": slots or num_cores(), "include_dashboard": False}
        else:
            if address != "auto":
                _check_answers(address)
            os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # not 20: a wrong token stays wrong
        try:
            import ray
        except ImportError as error:
            raise ClusterError("Ray is not installed: pip install -r requirements-ray.txt") from error
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            asked = "this machine must belong to the cluster and have its token and its versions of Python and Ray"
            raise ClusterError(f"{' '.join(str(error).split()).rstrip('.')}; {asked}") from error
        self._ray, self._slots = ray, slots

    @property
    def slots(self):
        return self._slots or int(self._ray.cluster_resources().get("CPU", 0))

    def start(self, argv, config, log):
        """See `LocalJobs.start`."""
        task = self._ray.remote(num_cpus=1, max_retries=NODES_LOST)(_importing(ROOT))
        return _Job(self._ray, task.remote(argv, as_json(config), log, os.getcwd(), self.threads), log)


class _Job:
    def __init__(self, ray, result, log):
        self._ray, self._result, self._log = ray, result, log

    def poll(self):
        if not self._ray.wait([self._result], timeout=0)[0]:
            return None
        try:
            return self._ray.get(self._result)
        except self._ray.exceptions.RayError as error:
            with suppress(OSError), open(self._log, "a") as log:
                print(" ".join(str(error).split()), file=log)
            return 1

    def terminate(self):
        self._ray.cancel(self._result)


def _importing(root):
    """`_work` as a function that Ray's processes can call although this package is not on their Python path.

    Ray sends a function of a module as its name, to be imported there, but a local function as code.
    """

    def work(*args):
        import sys

        if root not in sys.path:
            sys.path.insert(0, root)
        from launch.ray_cluster import _work

        return _work(*args)

    return work


def _work(argv, flags, log, directory, threads):
    """Execute one run on this node; returns the exit status of train.py. It is called in a process of Ray."""
    # A node that a script started in the background ignores SIGINT, and so ray.cancel.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    with suppress(UsageError):  # train.py reports the same error
        if (run_dir := find_run(parse_saved(flags))) is not None:
            with lock(run_dir, LOCK_WAIT):
                pass
    process = start_train(argv, log, threads)
    while True:
        try:
            while (status := process.poll()) is None:
                time.sleep(0.2)
            return status
        except KeyboardInterrupt:  # raised by ray.cancel
            process.terminate()


def _check_answers(address):
    """Raise ClusterError if nothing answers at address. Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (ValueError, OverflowError):
        raise ClusterError(f"{address!r} is not local, auto or host:port") from None
    except OSError as error:
        raise ClusterError(f"nothing answers at {address}: {error.strerror or error}") from error
