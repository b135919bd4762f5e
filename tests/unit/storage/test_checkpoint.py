"""Checkpoints: what comes back, what an interrupted or damaged one leads to. Rows hold their own number."""

import builtins
import errno
import hashlib
import io
import itertools
import json
import os
import pickle
import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import RunError
from replay_buffer import ReplayBuffer
from storage import plain_data
from storage.checkpoint import FORMAT, CheckpointError, Checkpoints, restoring


def make_buffer(capacity=40):
    return ReplayBuffer(2, 1, capacity, 3, 0.9, False, "cpu", np.random.default_rng(0))


def play(buffer, num_episodes, length=6):
    """Episodes whose reward is the number of the row."""
    for _ in range(num_episodes):
        for i in range(length):
            number = buffer.num_rows
            buffer.add([number, 1], [0.5], number, [number + 1, 1], i == length - 1, False)


def state_of(step):
    return {"weights": torch.full((3,), float(step)), "stream": {"state": 2**127 + step}, "text": f"step {step}"}


def assert_holds(buffer, state, step, episodes):
    """The checkpoint of a step, after so many episodes of 7 rows."""
    assert torch.equal(state["weights"], torch.full((3,), float(step)))
    assert state["stream"]["state"] == 2**127 + step and state["text"] == f"step {step}"
    expected = make_buffer(buffer.capacity)
    play(expected, episodes)
    assert (buffer.num_rows, buffer.size) == (expected.num_rows, expected.size)
    live = expected.live_rows()
    assert np.array_equal(buffer.read(live), expected.read(live))


@pytest.fixture
def two(tmp_path):
    """A directory with the checkpoints of steps 10 and 20, after 2 and 3 episodes."""
    checkpoints, buffer = Checkpoints(tmp_path), make_buffer()
    for step, episodes in ((10, 2), (20, 1)):
        play(buffer, episodes)
        checkpoints.save(step, state_of(step), buffer)
    return tmp_path


def load(directory):
    buffer = make_buffer()
    step, state, problems = Checkpoints(directory).load(buffer)
    assert_holds(buffer, state, step, {10: 2, 20: 3}[step])
    return step, problems


def newest(directory):
    return directory / "checkpoints" / "000000000020.checkpoint"


def test_what_was_saved_comes_back(two):
    assert load(two) == (20, [])


def test_a_larger_ring_takes_it_too(two):
    buffer = make_buffer(capacity=90)
    step, state, _ = Checkpoints(two).load(buffer)
    assert_holds(buffer, state, step, episodes=3)


def test_a_ring_that_has_wrapped_comes_back(tmp_path):
    checkpoints, buffer = Checkpoints(tmp_path), make_buffer()
    for step in range(1, 30):
        play(buffer, 1)
        checkpoints.save(step, state_of(step), buffer)
    other = make_buffer()
    step, state, _ = Checkpoints(tmp_path).load(other)
    assert_holds(other, state, step, episodes=29)
    play(other, 3), play(buffer, 3)
    for field, same in zip(other.sample(16)[:-1], buffer.sample(16)[:-1], strict=True):
        assert torch.equal(field, same)


def test_rows_are_written_once_and_deleted_when_the_ring_has_dropped_them(tmp_path):
    checkpoints, buffer = Checkpoints(tmp_path), make_buffer(capacity=70)
    written = {}
    for step in range(1, 60):
        play(buffer, 1)
        checkpoints.save(step, state_of(step), buffer)
        files = {p.name: p.stat().st_ino for p in (tmp_path / "checkpoints").glob("*.rows")}
        assert all(files[name] == inode for name, inode in written.items() if name in files)  # not written again
        written = files
        on_disk = sum(p.stat().st_size for p in (tmp_path / "checkpoints").glob("*.rows"))
        assert on_disk <= 2 * buffer.size * buffer.rows[0].nbytes
        assert len(list((tmp_path / "checkpoints").glob("*.checkpoint"))) == min(step, 2)
    assert len(written) <= 12


def overwrite(path, data):
    path.write_bytes(data)


def evil(path):
    """A whole checkpoint whose pickle would run code."""

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {path.parent / 'executed'}",)

    stream = io.BytesIO()
    torch.save({"step": 20, "row_files": [], "state": Evil()}, stream)
    for content in (stream.getvalue(), pickle.dumps(Evil())):
        header = {"format": FORMAT, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        yield json.dumps(header).encode() + b"\n" + content


def flip(data, position):
    data = bytearray(data)
    data[position] ^= 4
    return bytes(data)


DAMAGE = {
    "truncated": lambda p: overwrite(p, p.read_bytes()[:-100]),
    "one bit flipped": lambda p: overwrite(p, flip(p.read_bytes(), -500)),
    "one bit of the first line flipped": lambda p: overwrite(p, flip(p.read_bytes(), 5)),
    "empty": lambda p: overwrite(p, b""),
    "absent": lambda p: p.unlink(),
    "of a newer format": lambda p: overwrite(p, p.read_bytes().replace(b'"format": %d' % FORMAT, b'"format": 9', 1)),
    "a pickle that would run code": lambda p: overwrite(p, next(evil(p))),
    "a bare pickle that would run code": lambda p: overwrite(p, list(evil(p))[1]),
    "rows truncated": lambda p: overwrite(q := sorted(p.parent.glob("*.rows"))[-1], q.read_bytes()[:-4]),
    "rows flipped": lambda p: overwrite(q := sorted(p.parent.glob("*.rows"))[-1], flip(q.read_bytes(), 8)),
    "rows absent": lambda p: sorted(p.parent.glob("*.rows"))[-1].unlink(),
    "a directory": lambda p: (p.unlink(), p.mkdir()),
    "rows a directory": lambda p: (q := sorted(p.parent.glob("*.rows"))[-1], q.unlink(), q.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(two, damage):
    DAMAGE[damage](newest(two))
    step, problems = load(two)
    assert step == 10
    if damage == "absent":
        assert problems == []  # nothing tells that it was ever there
    else:
        (problem,) = problems
        rows_named = damage in ("rows flipped", "rows a directory")
        assert str(sorted(newest(two).parent.glob("*.rows"))[-1] if rows_named else "0000") in problem
        assert {"of a newer format": "format 9", "empty": "is empty", "rows absent": "is missing"}.get(
            damage, ""
        ) in problem
    assert not (newest(two).parent / "executed").exists()


def rewrite(path, change):
    """The checkpoint with another content, whole all the same."""
    data = plain_data.from_bytes(path.read_bytes().partition(b"\n")[2])
    content = plain_data.to_bytes(change(data))
    header = {"format": FORMAT, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_bytes(json.dumps(header).encode() + b"\n" + content)


def of_rows(**change):
    return lambda data: data | {"row_files": [data["row_files"][0] | change]}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: [data],
        lambda data: data | {"step": "20"},
        lambda data: data | {"step": -1},
        lambda data: data | {"state": "text"},
        lambda data: data | {"row_files": {}},
        lambda data: data | {"row_files": ["name"]},
        lambda data: data | {"row_files": data["row_files"][::-1]},
        of_rows(name="../../secret.rows"),
        of_rows(name=7),
        of_rows(first=0.0),
        of_rows(stop=0),
    ],
)
def test_a_whole_checkpoint_of_other_types_is_refused(two, change):
    rewrite(newest(two), change)
    step, (problem,) = load(two)
    assert step == 10 and problem == f"{newest(two)} is not a checkpoint of a run"


def test_a_read_error_is_a_sentence_and_the_one_before_is_used(two, monkeypatch):
    for ending in (".checkpoint", ".rows"):
        broken = sorted(newest(two).parent.glob(f"*{ending}"))[-1]

        def read(path, *args, broken=str(broken)):
            if str(path) == broken:
                raise OSError(errno.EIO, "Input/output error")
            return open(path, *args)

        monkeypatch.setattr("storage.checkpoint.open", read, raising=False)
        assert load(two) == (10, [f"{broken} cannot be read: Input/output error"])


def test_torch_warns_of_nothing(two, recwarn):
    for damage in ("a pickle that would run code", "a bare pickle that would run code"):
        DAMAGE[damage](newest(two))
        assert load(two)[0] == 10
    assert not recwarn.list


def test_a_row_file_that_both_checkpoints_need_is_named_once(two):
    oldest = sorted(newest(two).parent.glob("*.rows"))[0]
    oldest.unlink()
    with pytest.raises(CheckpointError) as caught:
        load(two)
    assert str(caught.value) == f"{oldest} is missing"


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, RuntimeError])
def test_a_state_that_does_not_fit_is_a_sentence(error):
    with pytest.raises(CheckpointError, match="the newest checkpoint of exp/a does not hold"), restoring("exp/a"):
        raise error("x")


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_a_good_checkpoint_the_reason_is_given(two, damage):
    (newest(two).parent / "000000000010.checkpoint").unlink()
    DAMAGE[damage](newest(two))
    with pytest.raises(CheckpointError) as caught:
        load(two)
    assert "\n" not in str(caught.value) and str(newest(two).parent) in str(caught.value)
    assert not (newest(two).parent / "executed").exists()


def test_after_a_fall_back_the_next_checkpoint_is_good(two):
    DAMAGE["rows flipped"](newest(two))
    checkpoints, buffer = Checkpoints(two), make_buffer()
    checkpoints.load(buffer)
    play(buffer, 1)
    checkpoints.save(20, state_of(20), buffer)
    assert load(two) == (20, [])


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["flip", "cut", "insert", "swap"]), where=st.floats(0, 1))
@settings(max_examples=500, deadline=None)
def test_500_random_corruptions(tmp_path_factory, seed, kind, where):
    """Whatever happens to the newest file: it is refused by name, and the one before is loaded."""
    directory = corrupted(tmp_path_factory)
    rng, path = random.Random(seed), newest(directory)
    data = path.read_bytes()
    at = int(where * (len(data) - 1))
    chunk = rng.randbytes(rng.choice([1, 7, 64]))
    damaged = {
        "flip": data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :],
        "cut": data[:at],
        "insert": data[:at] + chunk + data[at:],
        "swap": data[:at] + chunk + data[at + len(chunk) :],
    }[kind]
    path.write_bytes(damaged)
    try:
        step, problems = load(directory)
        harmless = step == 20 and problems == []  # a space in the first line, or the same bytes again
        assert harmless or (step == 10 and path.name in problems[0])
    finally:
        path.write_bytes(data)


def corrupted(factory, made=[]):  # noqa: B006 - made once
    if not made:
        directory = factory.mktemp("two")
        checkpoints, buffer = Checkpoints(directory), make_buffer()
        for step, episodes in ((10, 2), (20, 1)):
            play(buffer, episodes)
            checkpoints.save(step, state_of(step), buffer)
        made.append(directory)
    return made[0]


def in_a_child(function):
    """Calls it in a forked process; returns its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save_and_die(directory, stage):
    """Checkpoints of steps 10 and 20; the process is killed before call number `stage` that touches the disk."""
    checkpoints, buffer = Checkpoints(directory), make_buffer()
    play(buffer, 2)
    checkpoints.save(10, state_of(10), buffer)
    play(buffer, 1)
    calls = itertools.count(1)

    def now():
        if next(calls) == stage:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(function):
        def call(*args, **kwargs):
            now()
            return function(*args, **kwargs)

        return call

    class DeadlyFile(io.FileIO):
        def write(self, data):
            super().write(data[: len(data) // 2])
            now()
            return super().write(data[len(data) // 2 :])

    for name in ("open", "fsync", "replace", "remove", "close"):
        setattr(os, name, deadly(getattr(os, name)))
    builtins.open = deadly(lambda path, mode: DeadlyFile(path, mode))
    checkpoints.save(20, state_of(20), buffer)


@pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL")
def test_killed_at_each_stage_of_a_save(tmp_path):
    """The previous or the new checkpoint loads, and leftovers go."""
    loaded = []
    for stage in itertools.count(1):
        directory = tmp_path / str(stage)
        status = in_a_child(lambda directory=directory, stage=stage: save_and_die(directory, stage))
        checkpoints, buffer = Checkpoints(directory), make_buffer()
        step, state, problems = checkpoints.load(buffer)
        assert_holds(buffer, state, step, {10: 2, 20: 3}[step])
        assert problems == []
        loaded.append(step)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        play(buffer, 1)
        checkpoints.save(30, state_of(30), buffer)
        files = sorted(os.listdir(directory / "checkpoints"))
        assert not [name for name in files if name.endswith(".tmp")]
        assert len([name for name in files if name.endswith(".checkpoint")]) == 2
    assert stage > 8 and loaded == sorted(loaded) and set(loaded) == {10, 20}


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
@pytest.mark.parametrize("limit", [100, 1000])
def test_a_full_disk_leaves_the_last_checkpoint_alone(two, limit):
    """The limit hits the rows or the checkpoint itself."""

    def save():
        import resource

        checkpoints, buffer = Checkpoints(two), make_buffer()
        checkpoints.load(buffer)
        play(buffer, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(RunError, match=r"cannot write .*[\d,]+ bytes\): File too large"):
            checkpoints.save(30, state_of(30), buffer)

    assert in_a_child(save) == 0
    assert load(two) == (20, [])
    assert not list(newest(two).parent.glob("*.tmp"))


def test_a_failure_is_what_writing_raises(two):
    newest(two).parent.joinpath("000000000030.checkpoint.tmp").mkdir()
    buffer = make_buffer()
    checkpoints = Checkpoints(two)
    checkpoints.load(buffer)
    with pytest.raises(RunError, match=r"000000000030.checkpoint .*bytes\): Is a directory; [\d,]+ bytes are free"):
        checkpoints.save(30, state_of(30), buffer)


def test_a_directory_in_the_place_of_a_checkpoint_does_not_keep_the_run_from_saving(two):
    newest(two).unlink()
    (newest(two) / "inside").mkdir(parents=True)
    checkpoints, buffer = Checkpoints(two), make_buffer()
    step, _, problems = checkpoints.load(buffer)
    assert step == 10 and len(problems) == 1
    play(buffer, 1)
    checkpoints.save(15, state_of(15), buffer)
    checkpoints.save(20, state_of(20), buffer)
    assert load(two) == (20, []) and newest(two).with_suffix(".checkpoint.set-aside").is_dir()
