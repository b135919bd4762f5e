"""The learner's benchmark: its floor, its medians, contestants that fail, and the parts of an update."""

import itertools
import os
import sys

import pytest
import torch

from errors import UsageError
from profiling import contestant, learner, loop, update


def test_every_way_to_multiply_gives_the_same_product():
    products = [way() for way in contestant.ways_to_multiply(20, 30, 40)]
    assert len(products) == 2
    for one, other in itertools.pairwise(products):
        assert one.shape == (20, 40)
        torch.testing.assert_close(one, other)


def test_the_table_says_why_a_contestant_failed(monkeypatch):
    monkeypatch.setitem(learner.CONTESTANTS, "broken", ("ours", ["--h", "five"], False))
    table = learner.table(learner.measure("256", ["broken"], 1))
    assert "exit status 2" in table and "argument --h: invalid int value: 'five'" in table


def test_the_table_says_why_a_contestant_died_between_its_answers(monkeypatch, tmp_path):
    lines = ["#!/bin/sh", """echo '{"package": "a", "start_s": 0}'"""]
    lines += ["read n", """echo '{"wall": 1, "cpu": 1}'""", "read n", "echo 'no memory' >&2", "exit 3"]
    (tmp_path / "python").write_text("\n".join(lines))
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(learner, "PEERS_PYTHON", tmp_path / "python")
    assert "exit status 3: no memory" in learner.table(learner.measure("256", ["sbx (JAX)"], 2))


@pytest.mark.parametrize(
    "command, flags, sentence",
    [
        (learner, ["--rounds", "0"], "argument --rounds: "),
        (learner, ["--output", "old.json"], "old.json exists"),
        (loop, ["--output", "old.json"], "old.json exists"),
        (loop, ["--tasks", "typo"], "error: no task typo"),
    ],
)
def test_a_mistake_is_one_sentence(monkeypatch, tmp_path, capsys, command, flags, sentence):
    def measure(*_):
        raise UsageError("no task typo")

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(sys, "argv", ["command", *flags])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text("old")
    with pytest.raises(SystemExit) as end:
        command.main()
    error = capsys.readouterr().err
    assert end.value.code == 2 and sentence in error and error.count("\n") == 1


def test_the_table_says_how_to_install_the_peers(monkeypatch, tmp_path):
    monkeypatch.setattr(learner, "PEERS_PYTHON", tmp_path / "python")
    assert "make .venv-bench/installed" in learner.table(learner.measure("256", ["sbx (JAX)"], 1))


# Answers with known (wall, CPU) milliseconds per update, round after round.
CONTESTANT = """
import json, sys
rounds = {
    "matmul_bound": [(9, 3), (2, 1), (4, 2)],
    "sbx": [(8, 16), (6, 4), (7, 3)],
    "ours": [(5, 6), (30, 1), (10, 50)],
}[sys.argv[3]]
print("a library's greeting")
print(json.dumps({"package": sys.argv[3], "start_s": 1.5}), flush=True)
for line, (wall, cpu) in zip(sys.stdin, rounds):
    updates = int(line)
    print(json.dumps({"wall": 1e-3 * wall * updates, "cpu": 1e-3 * cpu * updates}), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="a script as a program")
def test_medians_over_rounds_and_their_ratios(monkeypatch, tmp_path):
    """Contestants are real processes, of a program that measures nothing and answers with known times."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{CONTESTANT}")
    program.chmod(0o755)
    monkeypatch.setattr(learner.sys, "executable", str(program))
    monkeypatch.setattr(learner, "PEERS_PYTHON", program)
    labels = ["matrix products", "sbx (JAX)", "ours, h = 1"]
    results = learner.measure("256", labels, 3)
    measured = [(results[label]["wall_ms"], results[label]["cpu_ms"]) for label in labels]
    assert measured == [pytest.approx(expected) for expected in ((4, 2), (7, 4), (10, 6))]
    columns = [line[32:].split() for line in learner.table(results).splitlines()[1:]]
    assert columns == [
        ["4.00", "2.00", "1.00", "0.50", "1.5"],
        ["7.00", "4.00", "2.00", "1.00", "1.5"],
        ["10.00", "6.00", "3.00", "1.50", "1.5"],
    ]


@pytest.mark.parametrize("flags, name", [("--env walker_run", "--env"), ("--updates_per_step 0.2", "--updates_per")])
def test_a_loop_that_cannot_be_measured_is_refused(flags, name):
    with pytest.raises(UsageError, match=f"^argument {name}"):
        loop.measure("cheetah_run", flags.split())


@pytest.mark.parametrize(
    "name, part",
    [
        ("aten::addmm", "matrix products"),
        ("graph_0_cpp_fused_linear_native_layer_norm_relu_4", "LayerNorm, fused with neighbours"),
        ("aten::_fused_adam_", "optimizers and target"),
        ("aten::normal_", "random numbers"),
        ("graph_1_cpp_fused_clone_linear_t_threshold_backward_12", "element-wise and other"),
        ("AddmmBackward0", None),
    ],
)
def test_operations_count_for_their_part(name, part):
    assert update.part_of(name) == part
