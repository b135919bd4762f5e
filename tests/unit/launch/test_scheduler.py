"""What the scheduler prints and decides, with jobs that do nothing."""

import pytest

from config import Config
from launch import scheduler as module
from launch.results import last_step
from launch.run import Run
from launch.scheduler import Scheduler, Status, hours_minutes
from storage.run_dir import finished_steps


class Jobs:
    """Jobs that end when a test says so."""

    slots, threads, delay = 2, 3, 0

    def __init__(self):
        self.started = {}

    def start(self, argv, config, log):
        with open(log, "a"):
            pass
        self.started[config.seed] = job = Job()
        job.argv = argv
        return job


class Job:
    status, terminated = None, 0

    def poll(self):
        return self.status

    def terminate(self):
        self.terminated += 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move, in seconds; `Scheduler.go` calls `clock.sleep`."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            raise AssertionError("nothing was planned")

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    return clock


class FakeRun(Run):
    steps = 0

    def directory(self):
        return None

    def is_finished(self):
        return self.steps == self.num_steps


def make(tmp_path, count, monkeypatch, units=256):
    runs = [
        FakeRun("e", "s", seed, (), Config(env="e", num_train_steps=100, hidden_dim=units, seed=seed))
        for seed in range(count)
    ]
    jobs = Jobs()
    for run in runs:
        (tmp_path / f"e_s_seed_{run.seed}.log").write_text("the last line\n")
    monkeypatch.setattr(Status, "_done_steps", lambda status, run: run.steps)
    return Scheduler(runs, jobs, tmp_path), runs, jobs


def play(clock, *acts):
    """Let one act happen in each round of `go`."""
    remaining = list(acts)
    clock.sleep = lambda _: remaining.pop(0)()


def test_only_what_changes_is_printed(tmp_path, monkeypatch, clock, capsys):
    scheduler, runs, jobs = make(tmp_path, 3, monkeypatch)
    printed = []

    def minutes_later():
        printed.append(capsys.readouterr().out)
        clock.now += 90
        runs[0].steps = 50

    def first_ends():
        printed.append(capsys.readouterr().out)
        runs[0].steps = 100
        jobs.started[0].status = 0

    def fails():
        jobs.started[1].status = 1
        jobs.started[2].status = 0
        runs[2].steps = 100

    play(clock, lambda: None, minutes_later, first_ends, lambda: None, fails, lambda: None)
    assert scheduler.go() is None
    name = f"{'e s seed 0':50}"
    assert printed == [
        f"{name} 0 of 100, running\n{name.replace('0', '1')} 0 of 100, running\n"
        "0 of 300 steps, 0 of 3 runs finished, 2 running, time left unknown\n",
        "50 of 300 steps, 0 of 3 runs finished, 2 running, time left 0:08\n",
    ]
    assert capsys.readouterr().out.replace(" " * 40, "") == (
        "e s seed 0 100 of 100, finished\n"
        "100 of 300 steps, 1 of 3 runs finished, 1 running, time left 0:03\n"
        "e s seed 2 0 of 100, running\n"
        "100 of 300 steps, 1 of 3 runs finished, 2 running, time left 0:03\n"
        "e s seed 1 0 of 100, failed: the last line\n"
        "e s seed 2 100 of 100, finished\n"
        "200 of 300 steps, 2 of 3 runs finished, 0 running, time left 0:00\n"
    )
    assert list(scheduler.failed) == [runs[1]]


def test_status_0_before_the_end_is_a_failure_once_the_files_must_be_there(tmp_path, monkeypatch, clock):
    scheduler, runs, jobs = make(tmp_path, 2, monkeypatch)
    jobs.delay = 60

    def both_end():
        jobs.started[0].status = jobs.started[1].status = 0

    def seen_late():
        clock.now += 30
        runs[1].steps = 100

    def too_late():
        clock.now += 31

    play(clock, both_end, lambda: None, seen_late, too_late, lambda: None)
    scheduler.go()
    assert scheduler.failed == {runs[0]: "ended with status 0 before its last step: the last line"}
    assert scheduler.finished == {runs[1]}


def both_end(jobs, runs):
    jobs.started[0].status = jobs.started[1].status = 0
    runs[1].steps = 100


def test_a_log_that_cannot_be_opened_is_the_failure_of_its_run_alone(tmp_path, monkeypatch, clock):
    scheduler, runs, jobs = make(tmp_path, 3, monkeypatch)
    log = tmp_path / "e_s_seed_0.log"
    log.unlink()
    log.mkdir()

    def others_end():
        runs[1].steps, jobs.started[1].status = 100, 0
        (tmp_path / "e_s_seed_2.log").write_bytes(b"no UTF-8: \xff\n")
        jobs.started[2].status = 1

    play(clock, others_end, lambda: None)
    assert scheduler.go() is None
    assert scheduler.failed == {
        runs[0]: f"cannot be started: [Errno 21] Is a directory: '{log}'",
        runs[2]: "no UTF-8: \ufffd",
    }
    assert scheduler.finished == {runs[1]}


def test_a_log_that_is_gone_does_not_stop_the_others(tmp_path, monkeypatch, clock):
    scheduler, runs, jobs = make(tmp_path, 2, monkeypatch)
    log = tmp_path / "e_s_seed_0.log"
    play(clock, log.unlink, lambda: both_end(jobs, runs), lambda: None)
    scheduler.go()
    assert scheduler.failed == {
        runs[0]: f"ended with status 0 before its last step: {log} cannot be read: No such file or directory"
    }
    assert scheduler.finished == {runs[1]}


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """(scheduler, two runs, jobs, args.json of the first run, which tells whether that run has finished)."""
    scheduler, runs, jobs = make(tmp_path, 2, monkeypatch)
    record = tmp_path / "args.json"
    record.write_text('{"args": {}}')
    runs[0].is_finished = lambda: finished_steps(tmp_path) >= 100
    return scheduler, runs, jobs, record


def test_a_damaged_record_is_the_failure_of_its_run_alone(recorded, clock):
    scheduler, runs, jobs, record = recorded
    play(clock, lambda: record.write_text("{"), lambda: both_end(jobs, runs), lambda: None)
    scheduler.go()
    assert scheduler.failed == {runs[0]: f"{record} is damaged: it is not JSON: the last line"}
    assert scheduler.finished == {runs[1]}


def test_each_signal_is_passed_on_once_and_acknowledged(tmp_path, monkeypatch, clock, capfd):
    scheduler, runs, jobs = make(tmp_path, 3, monkeypatch)
    acknowledged = []

    def interrupt():
        scheduler._receive(2, None)
        acknowledged.append(capfd.readouterr().err)

    def end():
        assert [job.terminated for job in jobs.started.values()] == [2, 2]
        for job in jobs.started.values():
            job.status = 130

    play(clock, interrupt, interrupt, lambda: None, end, lambda: None)
    assert scheduler.go() == 2
    assert acknowledged == [
        "stopping 2 runs at the next checkpoint, the end of an episode; a second signal stops at once\n",
        "stopping 2 runs at once\n",
    ]
    assert not scheduler.failed and list(jobs.started) == [0, 1]
    assert [scheduler.state(run) for run in runs] == ["stopped", "stopped", "waiting"]


@pytest.mark.parametrize("units, flags", [(512, []), (513, ["--num_threads", "3"])])
def test_wide_networks_get_the_threads_of_a_job(tmp_path, monkeypatch, clock, units, flags):
    """Before the run's own flags, of which train.py takes the last."""
    scheduler, runs, jobs = make(tmp_path, 1, monkeypatch, units)
    runs[0].argv = ("--num_threads", "2")

    def end():
        assert jobs.started[0].argv == [*flags, "--num_threads", "2"]
        jobs.started[0].status = -9

    play(clock, end, lambda: None)
    scheduler.go()
    assert scheduler.failed[runs[0]] == "killed by signal 9: the last line"


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (1, "0:01"), (60, "0:01"), (3601, "1:01"), (360000, "100:00")])
def test_hours_and_minutes(seconds, text):
    assert hours_minutes(seconds) == text


@pytest.mark.parametrize(
    "text, step",
    [
        ("step,return\n10,1\n20,2\n", 20),
        ("return,step,k\n1,10,1\n2,20,1\n", 20),
        ("step,return\n10,1\n2", 10),
        ("step,return\n", 0),
        ("step,return", 0),
        ("a,b\n1,2\n", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_the_last_step_is_found_by_the_name_of_its_column(tmp_path, text, step):
    if text is not None:
        (tmp_path / "train.csv").write_text(text)
    assert last_step(tmp_path / "train.csv") == step
