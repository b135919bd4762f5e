"""Effects of the factorial: against known ones, and against the files."""

import itertools

import numpy as np
import pytest

from studies import factorial
from tests.helpers import ROOT, rows


@pytest.fixture
def design():
    """(task, levels) of all 64 cells."""
    cells = rows(ROOT / factorial.SUITE / "factorial.csv")
    return [
        (row["task"], [1 if plus(row["task"]) in row["flags"] else -1 for plus in factorial.PLUS.values()])
        for row in cells
    ]


def test_cells_seeds_and_common_flags():
    cells = rows(ROOT / factorial.SUITE / "factorial.csv")
    assert [int(row["cell"]) for row in cells] == list(range(1, 65))
    assert all(int(row["seed"]) == 100 + int(row["cell"]) for row in cells)
    common = "--num_train_steps 50000 --num_seed_steps 1000 --eval_frequency 10000 --normalize_observations "
    assert all(row["flags"].startswith(common) for row in cells)


def test_generators_and_resolution(design):
    settings = np.array([levels for task, levels in design if task == "cheetah_run"])
    assert len(settings) == 16 == len({tuple(levels) for levels in settings[:, :4]})
    a, b, c, d, *generated = settings.T
    assert (np.array(generated) == [b * c * d, a * c * d, a * b * c, a * b * d]).all()
    for count in (1, 2, 3):  # resolution IV: no main effect is confounded with another one or with an interaction
        for columns in itertools.combinations(settings.T, count):
            assert np.prod(columns, axis=0).sum() == 0


def test_prefixes_are_balanced(design):
    """Each four rows are one setting on the four tasks, each eight that setting and its opposite."""
    for start in range(0, 64, 8):
        block = design[start : start + 8]
        assert [task for task, _ in block] == 2 * list(factorial.HALF_ENTROPY)
        levels = np.array([levels for _, levels in block])
        assert (levels[:4] == levels[0]).all() and (levels[4:] == -levels[0]).all()


def test_each_factor_is_at_plus_in_half_of_the_runs_of_each_task(design):
    for task in factorial.HALF_ENTROPY:
        levels = np.array([each for name, each in design if name == task])
        assert levels.shape == (16, 8) and (levels.sum(0) == 0).all()


def test_known_effects_are_found(design):
    truth = np.array([10.0, -20, 0, 5, 40, 0, -3, 1])
    level = {task: 100.0 * i for i, task in enumerate(factorial.HALF_ENTROPY)}
    noise = np.random.default_rng(0).normal(0, 12, 64)
    cells = [
        (task, levels, level[task] + truth @ levels / 2 + e) for (task, levels), e in zip(design, noise, strict=True)
    ]
    found = factorial.effects(cells)
    assert [effect.name for effect in found] == list(factorial.PLUS)
    scores, levels = np.array([score for *_, score in cells]), np.array([each for _, each in design])
    for i, effect in enumerate(found):
        by_hand = scores[levels[:, i] == 1].mean() - scores[levels[:, i] == -1].mean()
        assert effect.value == pytest.approx(by_hand) == pytest.approx(np.mean(list(effect.by_task.values())))
        assert effect.error == pytest.approx(2 * 12 / 8, rel=0.3)  # 2 sigma / sqrt(64)
        assert abs(effect.value - truth[i]) < 3.5 * effect.error


def test_no_noise_has_no_error(design):
    cells = [(task, levels, 7.0 + 3.0 * levels[2]) for task, levels in design]
    for i, effect in enumerate(factorial.effects(cells)):
        assert effect.value == pytest.approx(6.0 if i == 2 else 0.0) and effect.error == pytest.approx(0, abs=1e-9)


def test_too_few_cells(design):
    with pytest.raises(ValueError, match="8 cells do not identify the effects"):
        factorial.effects([(task, levels, 1.0) for task, levels in design[:8]])


def test_rule():
    def enters(name, value, worst):
        return factorial.Effect(name, value, 10.0, {"walker_run": worst, "cheetah_run": 60.0}).enters()

    assert enters("fading replay weight", 10.1, -100) and not enters("fading replay weight", 9.9, 0)
    assert not enters("fading replay weight", 30, -100.1)
    assert enters("pink noise", -9.9, -200) and not enters("pink noise", -10.1, 0)


def test_score(tmp_path):
    path = tmp_path / "eval.csv"
    path.write_text("step,return\n10000,1\n20000,2\n30000,3\n40000,4\n50000,8\n")
    assert factorial.score(str(path)) == 5
    path.write_text("step,return\n30000,3\n40000,4\n")
    with pytest.raises(ValueError, match="lacks an evaluation"):
        factorial.score(str(path))


def test_runs_have_the_flags_of_their_cells():
    import json

    for row in rows(ROOT / factorial.SUITE / "factorial.csv"):
        path = ROOT / factorial.SUITE / "factorial" / f"c{int(row['cell']):02d}" / "args.json"
        if path.exists():
            record = json.loads(path.read_text())
            expected = ["train.py", "--env", row["task"], "--seed", row["seed"], *row["flags"].split()]
            assert record["command"][: len(expected)] == expected and record["finished"] == 50_000
