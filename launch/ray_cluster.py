"""Where the runs of a benchmark are executed: as tasks of a Ray cluster."""

import os
import secrets
import signal
import socket
import time
from contextlib import suppress

from config import as_json, parse_saved
from errors import UsageError
from launch.local import ROOT, start_train
from storage.run_dir import find_run, lock

LOCK_WAIT = 120  # seconds; a file server may keep the locks of a machine that died for 90
NODES_LOST = 20  # that one run survives


class ClusterError(ValueError):
    """A cluster that cannot be used; the message is one sentence."""


class RayJobs:
    """Tasks of one CPU each. Those of a node that dies are started again on another one.

    Args:
        address: of a running cluster that this machine belongs to, host:port or auto; or local, a private one here.
        slots: how many at a time, None for as many as the cluster has CPUs.

    Raises:
        ClusterError: Ray is not installed, or no cluster answers.
    """

    threads = 1
    delay = 90  # see LocalJobs; seconds for which a file server's client may show an old directory

    def __init__(self, address, slots):
        options = {"address": address}
        if address == "local":
            # Read when ray is imported. The last one says that no other machine is to join: all ports are 127.0.0.1's.
            token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ |= token | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
            options |= {"num_cpus": slots or os.cpu_count(), "include_dashboard": False}
        else:
            if address != "auto":
                _check_answers(address)
            os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # with a wrong token, instead of 20
        try:
            import ray
        except ImportError as error:
            raise ClusterError("Ray is not installed: pip install -r requirements-ray.txt") from error
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            asked = "does this machine belong to it, with its token and its versions of Python and Ray?"
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
            with open(self._log, "a") as log:
                print(" ".join(str(error).split()), file=log)
            return 1

    def terminate(self):
        self._ray.cancel(self._result)


def _importing(root):
    """`_work` as a function that can be called where this package is not on Python's path.

    Ray sends a function of a module by its name, which its processes may be unable to import, and a local one whole.
    """

    def work(*args):
        import sys

        if root not in sys.path:
            sys.path.insert(0, root)
        from launch.ray_cluster import _work

        return _work(*args)

    return work


def _work(argv, flags, log, directory, threads):
    """One run on whichever node this is; returns the exit status of train.py."""
    # A node that a script started in its background ignores SIGINT, and would ignore ray.cancel with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    with suppress(UsageError):  # train.py will say the same
        if (run_dir := find_run(parse_saved(flags))) is not None:
            with lock(run_dir, LOCK_WAIT):
                pass
    process = start_train(argv, log, threads)
    while True:
        try:
            while (status := process.poll()) is None:
                time.sleep(0.2)
            return status
        except KeyboardInterrupt:  # what ray.cancel becomes
            process.terminate()


def _check_answers(address):
    """Raise ClusterError if nothing does; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (ValueError, OverflowError):
        raise ClusterError(f"{address!r} is not local, auto or host:port") from None
    except OSError as error:
        raise ClusterError(f"nothing answers at {address}: {error.strerror or error}") from error
