"""The learner's benchmark: what it says of a contestant that fails."""

from profiling import learner


def test_the_table_says_why_a_contestant_failed(monkeypatch):
    monkeypatch.setitem(learner.CONTESTANTS, "broken", ("ours", ["--h", "five"], False))
    table = learner.table(learner.measure("256", ["broken"], 1))
    assert "exit status 2" in table and "argument --h: invalid int value: 'five'" in table


def test_the_table_says_how_to_install_the_peers(monkeypatch, tmp_path):
    monkeypatch.setattr(learner, "PEERS_PYTHON", tmp_path / "python")
    assert "make .venv-bench/installed" in learner.table(learner.measure("256", ["sbx (JAX)"], 1))
