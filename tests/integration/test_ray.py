"""benchmark.py on Ray: real clusters on loopback, whose nodes are processes of this machine."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

from tests.helpers import ROOT, assert_equal, benchmark, benchmark_command, rows, trajectory

COMMON = "num_train_steps=400 num_seed_steps=40 updates_per_step=0.2 hidden_dim=32 batch_size=16 chunk_size=1"
COMMON += " eval_frequency=200 num_eval_episodes=1 checkpoint_frequency=40 save_video=false log_save_tb=false"
FLAGS = ["--name", "b", "--envs", "tests.envs.slow:Slow-v0", "--set", "plain:", "--common", COMMON, "--seeds"]


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs and two nodes of one CPU, all on 127.0.0.1, with a token and without dashboard."""
    if sys.platform != "linux":
        pytest.skip("Ray has clusters on Linux only")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "t" * 64)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 would be no share of a machine that runs other tests
        # Not before: ray reads these variables once.
        cluster_utils = pytest.importorskip("ray.cluster_utils", reason="pip install -r requirements-ray.txt")
        started = cluster_utils.Cluster()
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script does that starts nodes in its background
        try:
            for cpus in (0, 1, 1):
                started.add_node(
                    num_cpus=cpus,
                    node_ip_address="127.0.0.1",
                    include_dashboard=False,
                    object_store_memory=80 * 2**20,
                )
            signal.signal(signal.SIGINT, interrupt)
            yield started
        finally:
            started.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Two of the runs as plain processes."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    result = benchmark(cwd, *FLAGS, "1-2")
    assert result.returncode == 0, result.stderr
    return cwd


@contextmanager
def under_way(cwd, runs, *flags):
    """benchmark.py when so many runs have taken a checkpoint."""
    with subprocess.Popen(benchmark_command(*flags), cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        try:
            while len({path.parent for path in cwd.glob("exp/*/checkpoints/*[48]0.checkpoint")}) < runs:
                time.sleep(0.05)
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def assert_same_runs(cwd, undisturbed, seeds):
    for seed in seeds:
        (there,), (here,) = (list(where.glob(f"exp/b-plain-*-s{seed}-*")) for where in (undisturbed, cwd))
        assert_equal(trajectory(here), trajectory(there))
    for name in ("runs.csv", "eval.csv"):
        there, here = (
            [row for row in rows(where / "results" / "b" / name) if int(row["seed"]) in seeds]
            for where in (undisturbed, cwd)
        )
        assert here == there


def test_a_run_is_stopped_and_goes_on_in_a_private_cluster(cluster, undisturbed, tmp_path):
    with under_way(tmp_path, 1, *FLAGS, "1", "--ray", cluster.address) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 143
    assert not list(tmp_path.glob("exp/*/policy.pt"))
    (log,) = tmp_path.glob("exp/b-logs/*.log")
    assert "stopping at the end of the episode" in log.read_text()
    result = benchmark(tmp_path, *FLAGS, "1", "--ray", "local", "--jobs", "1")
    assert result.returncode == 0, result.stderr
    assert "continued from step" in log.read_text()
    assert_same_runs(tmp_path, undisturbed, (1,))


def test_the_runs_of_a_node_that_dies_go_on_elsewhere(cluster, undisturbed, tmp_path):
    import psutil  # comes with ray

    def node_in_mid_run():
        """A raylet, what runs below it, and its train.py, which has taken a checkpoint and is far from its end."""
        while process.poll() is None:
            for node in cluster.worker_nodes:
                raylet = node.all_processes["raylet"][0].process
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    below = psutil.Process(raylet.pid).children(recursive=True)
                    for train in (p for p in below if any("train.py" in word for word in p.cmdline())):
                        words = train.cmdline()
                        run = f"exp/*-s{words[words.index('--seed') + 1]}-*"
                        taken = [int(path.stem) for path in tmp_path.glob(f"{run}/checkpoints/*.checkpoint")]
                        if 40 <= max(taken, default=0) <= 160:
                            return raylet, below, train
            time.sleep(0.05)
        pytest.fail("no run was caught in the middle")

    with under_way(tmp_path, 1, *FLAGS, "1-3", "--ray", cluster.address) as process:
        raylet, below, train = node_in_mid_run()
        # train.py itself is left: it has to notice.
        for lost in (raylet, *(p for p in below if p != train)):
            lost.kill()
        train.wait(timeout=30)
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    records = [json.loads(path.read_text()) for path in tmp_path.glob("exp/*/args.json")]
    assert len(records) == 3
    assert [[start["step"] >= 40 for start in r["resumed"]] for r in records].count([True]) == 1
    assert_same_runs(tmp_path, undisturbed, (1, 2))
    assert [r["step"] for r in rows(tmp_path / "results" / "b" / "eval.csv")] == ["200", "400"] * 3


def refused(cwd, address, why):
    result = benchmark(cwd, *FLAGS, "1", "--ray", address)
    assert result.returncode == 2
    sentence = result.stderr.splitlines()[-1]  # with a wrong token there are also warnings of Ray's own
    assert sentence.startswith("benchmark.py: error: argument --ray: ") and why in sentence
    assert "Traceback" not in result.stderr
    assert not (cwd / "exp").exists()


def test_a_wrong_token_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    refused(tmp_path, cluster.address, "have its token")


def test_an_address_where_nothing_answers(tmp_path):
    refused(tmp_path, "127.0.0.1:9", "nothing answers at 127.0.0.1:9")
    refused(tmp_path, "nonsense", "'nonsense' is not local, auto or host:port")


def test_ray_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "ray.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    refused(tmp_path, "local", "pip install -r requirements-ray.txt")


DRIVER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from benchmark import parse_command_line
from launch.ray_cluster import RayJobs
_, (run,), _, _ = parse_command_line(sys.argv[3:])
job = RayJobs(sys.argv[2], 1).start(run.argv, run.config, "log")
while (status := job.poll()) is None:
    time.sleep(0.2)
sys.exit(status)
"""


def test_the_package_is_found_where_it_is_not_on_the_path(cluster, tmp_path):
    """Ray adds the folders of the script and of the process to its workers' path: here neither is the package's."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "driver.py").write_text(DRIVER)
    (tmp_path / "cwd").mkdir()
    short = ["--name", "b", "--envs", "Pendulum-v1", "--set", f"s: {COMMON}", "--seeds", "1"]
    words = [sys.executable, tmp_path / "scripts" / "driver.py", ROOT, cluster.address, *short]
    result = subprocess.run(list(map(str, words)), cwd=tmp_path / "cwd", capture_output=True, text=True, timeout=300)
    log = tmp_path / "cwd" / "log"
    assert result.returncode == 0, log.read_text() if log.exists() else result.stderr
    assert len(list(tmp_path.glob("cwd/exp/*/policy.pt"))) == 1
