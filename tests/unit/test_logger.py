import csv
import errno
import io
import itertools
import math
import os
import time

import pytest
import torch

from errors import RunError, UsageError
from logger import CsvLog, Logger, MeanMetrics, check_csv


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_late_column_keeps_the_earlier_rows(tmp_path):
    log = CsvLog(tmp_path / "a.csv")
    log.write({"step": 1, "a": 0.5})
    log.write({"step": 2, "a": 1.5, "late": 7})
    log.write({"step": 3, "late": 8})
    assert read(tmp_path / "a.csv") == [
        {"step": "1", "a": "0.5", "late": ""},
        {"step": "2", "a": "1.5", "late": "7"},
        {"step": "3", "a": "", "late": "8"},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_every_row_is_on_disk_at_once(tmp_path):
    log = CsvLog(tmp_path / "a.csv")
    for step in range(3):
        log.write({"step": step})
        assert len(read(tmp_path / "a.csv")) == step + 1


def test_a_resumed_log_drops_what_came_after_the_checkpoint(tmp_path):
    """Later rows and a line without its end go, even one that reads like an early step; columns stay."""
    path = tmp_path / "a.csv"
    log = CsvLog(path)
    for step in (100, 200, 300):
        log.write({"step": step, "return": step / 7})
    log.write({"step": 400, "return": 1.0, "late": 5})
    with open(path, "a", newline="") as file:
        file.write("10")  # of 1000
    log = CsvLog(path, last_step=200)
    assert [row["step"] for row in read(path)] == ["100", "200"]
    assert [float(row["return"]) for row in read(path)] == [100 / 7, 200 / 7]
    log.write({"step": 300, "return": 2.0, "late": 6})
    assert read(path)[-1] == {"step": "300", "return": "2.0", "late": "6"}
    assert os.listdir(tmp_path) == ["a.csv"]


def test_a_log_of_a_header_alone_is_continued(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("")
    CsvLog(path, last_step=5).write({"step": 6})
    assert read(path) == [{"step": "6"}]


ROW = "step,return\r\n10,1.5\r\n"
DAMAGED = {
    "binary": bytes(range(256)) + b"\n",
    "NUL": b"step,return\n1\x00,2\n",
    "no step": b"return\r\n1.5\r\n",
    "a step that is no number": ROW.encode() + b"x,1\r\n",
    "a step that is not finite": ROW.encode() + b"inf,1\r\n",
    "a value that is no number": ROW.encode() + b"20,high\r\n",
    "too many values": ROW.encode() + b"20,1,2\r\n",
}


@pytest.mark.parametrize("name", ["train", "eval"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named_and_left_alone(tmp_path, name, damage):
    path = tmp_path / f"{name}.csv"
    path.write_bytes(DAMAGED[damage])
    for check in (lambda: check_csv(tmp_path, 10, {"train": 0, "eval": 0}), lambda: CsvLog(path, 10)):
        with pytest.raises(UsageError, match=rf"{name}.csv is damaged"):
            check()
    assert path.read_bytes() == DAMAGED[damage] and os.listdir(tmp_path) == [path.name]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "eval.csv").mkdir()
    with pytest.raises(UsageError, match="eval.csv cannot be read: Is a directory"):
        check_csv(tmp_path, 10, {"train": 0, "eval": 0})


def logged(run_dir, last_step=0, steps=()):
    logger = Logger(run_dir, {}, total_steps=100, save_tb=False, last_step=last_step)
    row = {"episode": 1, "length": 1, "duration": 1.0, "steps_per_second": 1.0, "return": 1.0, "k": 1.0}
    for step in steps:
        logger.log_train({"step": step, **row}, [], [])
        if step % 20 == 0:
            logger.log_eval({"step": step, "return": 1.0, "k": 1.0})
    logger.sync()
    logger.close()
    return logger.num_rows()


def test_rows_are_counted_for_the_checkpoint(tmp_path, recwarn):
    assert logged(tmp_path) == {"train": 0, "eval": 0}
    assert logged(tmp_path, steps=(10, 20, 30, 40)) == {"train": 4, "eval": 2}
    check_csv(tmp_path, 30, {"train": 3, "eval": 1})
    assert logged(tmp_path, last_step=30, steps=(40, 50)) == {"train": 5, "eval": 2}
    assert not recwarn.list


@pytest.mark.parametrize("lose", [lambda path: path.write_text(""), os.remove])
@pytest.mark.parametrize("name, expected", [("train", 3), ("eval", 1)])
def test_lost_rows_give_a_warning(tmp_path, lose, name, expected):
    logged(tmp_path, steps=(10, 20, 30, 40))
    lose(tmp_path / f"{name}.csv")
    with pytest.warns(UserWarning) as caught:
        check_csv(tmp_path, 30, {"train": 3, "eval": 1})
    (warning,) = caught
    text = (
        f"{name}.csv has 0 rows up to step 30, and had {expected} when the checkpoint was written: {expected} are lost"
    )
    assert text in str(warning.message)


def test_a_replaced_file_is_on_the_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    """A power failure may otherwise leave an empty file: fsync, rename, fsync of the directory."""
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new)))
    log = CsvLog(tmp_path / "a.csv")
    log.write({"step": 1})
    assert calls == ["fsync", "replace", "fsync"]
    log.write({"step": 2, "late": 1})
    CsvLog(tmp_path / "a.csv", last_step=2)
    assert calls == ["fsync", "replace", "fsync"] * 3


def test_a_full_disk_when_a_run_is_continued(tmp_path, monkeypatch):
    logged(tmp_path, steps=(10, 20))
    before = (tmp_path / "train.csv").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*train.csv .*: No space left on device; [\d,]+ bytes are free"):
        CsvLog(tmp_path / "train.csv", last_step=20)
    assert (tmp_path / "train.csv").read_bytes() == before and sorted(os.listdir(tmp_path)) == ["eval.csv", "train.csv"]


def test_no_room_for_the_tensorboard_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", full)
    with pytest.raises(RunError, match=r"cannot write .*events.out.tfevents.*: No space left on device"):
        Logger(tmp_path, {}, total_steps=10, save_tb=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_failure(value):
    with pytest.raises(RunError, match="step 7: training has diverged: actor_loss is"):
        MeanMetrics().record({"q": torch.tensor(value), "actor_loss": torch.tensor(value)}, step=7)


def test_tensorboard_curves_continue(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    row = {"episode": 1, "length": 10, "duration": 2.0, "steps_per_second": 5.0, "k": 1.5}
    # The second start continues from the checkpoint of step 0.
    for last_step, steps, value in ((0, (10, 20), 3.0), (0, (10, 20, 30), 1.0), (20, (30, 40), 2.0)):
        logger = Logger(tmp_path, {}, total_steps=40, save_tb=True, last_step=last_step)
        for step in steps:
            logger.log_train({"step": step, **row, "return": value}, [1, 2], [[1, 0.2], [1, 0.8]])
        logger.close()
        time.sleep(1.1)  # files are named after the second
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/return")] == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]
    assert [int(row["step"]) for row in read(tmp_path / "train.csv")] == [10, 20, 30, 40]


def test_rates_are_positive_when_the_clock_is_set_back(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    clock = itertools.count(1e9, -3600)
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    monkeypatch.setattr("sys.stderr", Terminal())
    logger = Logger(tmp_path, {}, total_steps=100, save_tb=False, last_step=10)
    for _ in range(20):
        logger.step()
        time.sleep(0.02)
    state = logger._bar.format_dict
    assert state["n"] == 30 and state["initial"] == 10
    assert 0.3 < state["elapsed"] < 60 and 0 < state["rate"] < 60
    logger.close()


def test_mean_metrics():
    metrics = MeanMetrics()
    metrics.record({"q": torch.tensor(1.0), "label": torch.tensor([0.0, math.nan, math.nan])}, step=1)
    metrics.record({"q": torch.tensor(3.0), "label": torch.tensor([1.0, 0.25, math.nan])}, step=2)
    means = metrics.pop()
    assert math.isnan(means.pop("label_4"))  # nothing was seen
    assert means == {"q": 2.0, "label_2": 0.5, "label_3": 0.25}
    assert metrics.pop() == {}


def test_tensorboard_holds_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = {"action_repeat": 1, "betas": (0.9, 0.999), "chunk_size": 2, "env": "x"}
    logger = Logger(tmp_path, flags, total_steps=20, save_tb=True)
    update = {"q": 1.5, "actor_loss": 2.5, "confidence_loss": 3.5, "label": [4.5]}
    logger.record_update({name: torch.tensor(value) for name, value in update.items()}, step=1)
    row = {"episode": 1, "length": 10, "duration": 2.0, "steps_per_second": 5.0, "return": 3.0, "k": 1.5}
    logger.log_train({"step": 10, **row}, [1, 2], [[1, 0.2], [1, 0.8]])
    logger.log_train({"step": 20, **row, "return": 4.0}, [2, 2], [[1, 0.9], [1, 0.8]])
    logger.log_eval({"step": 20, "return": 9.0, "return_1": 7.0, "return_2": 11.0, "k": 2.0})
    logger.close()

    events = EventAccumulator(str(tmp_path), size_guidance={"histograms": 0})
    events.Reload()
    groups = {"q": "policy", "actor_loss": "loss", "confidence_loss": "loss", "label_2": "confidence"}
    rows = read(tmp_path / "train.csv")
    for name in rows[-1].keys() - {"step"}:
        logged = [(str(e.step), e.value) for e in events.Scalars(f"{groups.get(name, 'train')}/{name}")]
        assert logged == [(r["step"], pytest.approx(float(r[name]))) for r in rows if r[name]]
    assert {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"] if tag.startswith("eval/")} == {
        "eval/return": 9,
        "eval/return_std": 2,  # one chart for the spread of all episodes
        "eval/k": 2,
    }
    evaluation = {"step": "20", "return": "9.0", "return_1": "7.0", "return_2": "11.0", "k": "2.0"}
    assert read(tmp_path / "eval.csv") == [evaluation]
    assert read(tmp_path / "train.csv")[0]["q"] == "1.5" and read(tmp_path / "train.csv")[1]["q"] == ""
    k = events.Histograms("plans/k")
    assert [(e.step, e.histogram_value.num, e.histogram_value.sum) for e in k] == [(10, 2, 3), (20, 2, 4)]
    assert events.Histograms("plans/confidence")[0].histogram_value.sum == pytest.approx(1.0)
    tags = events.Tags()
    assert not set(tags["scalars"]) & set(tags["histograms"])  # TensorBoard shows one kind per tag
    hparams = {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    content = events.PluginTagToContent("hparams")
    assert set(content) == hparams
    assert all(name.encode() in content["_hparams_/session_start_info"] for name in flags)


def test_piped_output_is_plain_lines(tmp_path, capsys):
    logger = Logger(tmp_path, {}, total_steps=2, save_tb=False)
    row = {"episode": 1, "length": 1, "duration": 1.0, "steps_per_second": 1.0}
    logger.step()
    logger.log_train({"step": 1, "return": 3.0, "k": 1.5, **row}, [], [])
    logger.log_eval({"step": 1_234_567, "return": 4.0, "k": 2.0})
    logger.close()
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "train | episode 1 | step 1 | return 3 | k 1.5 | steps_per_second 1",
        "eval  | step 1234567 | return 4 | k 2",
    ]
