import sys

import pytest

from analysis.saved_run import SavedRun
from config import Config
from errors import UsageError
from studies import gusty_halves


def test_a_run_on_another_task_is_refused(monkeypatch):
    monkeypatch.setattr(gusty_halves, "load_run", lambda _: SavedRun(None, Config(env="Pendulum-v1"), 1))
    with pytest.raises(UsageError, match="exp/a is a run on Pendulum-v1, which has no gusty half"):
        gusty_halves.halves("exp/a", 1)


def test_two_runs_of_one_name_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["gusty_halves", "a/s1", "b/s1", "--output", str(tmp_path / "c.json")])
    with pytest.raises(SystemExit) as end:
        gusty_halves.main()
    assert end.value.code == 2 and "two directories have the same name" in capsys.readouterr().err
