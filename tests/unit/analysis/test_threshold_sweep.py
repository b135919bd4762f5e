import numpy as np
import pytest

from agent.chunking import Plan
from analysis import threshold_sweep
from envs import make_env
from errors import UsageError
from rollout import play
from tests.envs.scripted import episode_return


class Planner:
    """Trusts the second action everywhere, the third on even steps."""

    def plan(self, obs, sample):
        return Plan(np.zeros((3, 2), np.float32), np.array([1.0, 0.85, 0.75 if obs[0] % 2 == 0 else 0.25]))


def test_rows(monkeypatch):
    played = []  # what `play` returned for each row
    monkeypatch.setattr(threshold_sweep, "play", lambda *args: played.append(play(*args)) or played[-1])
    env = make_env("tests.envs.scripted:Scripted-v0")
    rows = list(threshold_sweep.rows(Planner(), env, seeds=[5, 6, 7], chunk_size=3))
    episodes = iter(range(1, 1000))
    for row in rows:
        assert row["returns"] == [episode_return(next(episodes)) for _ in range(3)]
    learned = {row["setting"]: row for row in rows if row["kind"] == "confidence"}
    assert learned[0.2]["k"] == 3 and learned[0.8]["k"] == 2 and learned[0.9]["k"] == 1
    controls = {row["setting"]: row for row in rows if row["kind"] == "shuffled"}
    assert list(controls) == [0.3, 0.4, 0.5, 0.6, 0.7]  # where lengths differ at all
    lengths = {(row["kind"], row["setting"]): sum(ks, []) for row, (_, ks) in zip(rows, played, strict=True)}
    for setting, control in controls.items():
        # Plans at steps 0, 3, 5 of an episode of 7, at 0, 3 of 4, at 0, 3, 5, 7 of 9.
        assert lengths["confidence", setting] == [3, 2, 2, 3, 2, 3, 2, 2, 2]
        # In the order that is drawn here the episodes take as many plans: each length once.
        assert lengths["shuffled", setting] != lengths["confidence", setting]
        assert sorted(lengths["shuffled", setting]) == sorted(lengths["confidence", setting])
        assert control["k"] == learned[setting]["k"] == pytest.approx(21 / 9)


def test_shuffled_lengths_are_the_same_lengths_in_another_order():
    lengths = [1, 1, 2, 3, 3, 3, 5]
    length = threshold_sweep.shuffled(lengths)
    drawn = [length(None) for _ in range(70)]
    for i in range(0, 70, 7):
        assert sorted(drawn[i : i + 7]) == lengths
    assert len({tuple(drawn[i : i + 7]) for i in range(0, 70, 7)}) > 5


def sweep_of(learned, shuffled, seed=1, task="task", step=9):
    """A file of one threshold; shuffled is None where all lengths are the same."""
    rows = [("fixed", 1, 1.0, 5.0), ("confidence", 0.5, 2.0, learned)] + [("shuffled", 0.5, 2.0, shuffled)]
    rows = [dict(zip(("kind", "setting", "k", "return"), row, strict=True)) for row in rows if row[3] is not None]
    return {"title": f"{task}, seed {seed}, step {step}", "rows": rows}


def test_pooled_gains_are_paired_over_runs():
    runs = [sweep_of(10.0, 9.0, 1), sweep_of(20.0, 17.0, 2), sweep_of(30.0, None, 3), sweep_of(40.0, 38.0, 4)]
    pooled = threshold_sweep.pool(runs)
    assert pooled["title"] == "task, 4 runs" and pooled["runs"] == 4
    assert [(row["kind"], row["return"]) for row in pooled["rows"]] == [
        ("fixed", 5.0), ("confidence", 25.0), ("shuffled", 23.5)
    ]  # fmt: skip
    (gain,) = pooled["gains"]
    assert gain["gains"] == [1.0, 3.0, 0.0, 2.0] and gain["gain"] == 1.5 and gain["k"] == 2
    # t = mean / (sd / sqrt(n)); the distribution function of Student's t with 3 degrees of freedom in closed form
    t = 1.5 / (np.std([1, 3, 0, 2], ddof=1) / 2)
    x = t / np.sqrt(3)
    assert gain["p"] == pytest.approx(2 * (0.5 - (x / (1 + x * x) + np.arctan(x)) / np.pi))
    assert "3 of 4" in threshold_sweep.gains_table(pooled)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_p_is_undefined_where_all_runs_gain_the_same(gain):
    pooled = threshold_sweep.pool([sweep_of(value + gain, value, seed) for seed, value in enumerate((1.0, 2.0, 3.0))])
    assert pooled["gains"][0]["p"] is None
    assert threshold_sweep.gains_table(pooled).split("\n")[1].split()[-4] == "-"


def test_intervals_of_few_runs_are_their_range_and_those_of_gains_are_of_student():
    pooled = threshold_sweep.pool([sweep_of(10.0, 9.0, 1), sweep_of(20.0, 17.0, 2), sweep_of(30.0, 28.0, 3)])
    assert pooled["interval"] == "range of 3 seeds"
    assert [(row["return_low"], row["return_high"]) for row in pooled["rows"]] == [(5, 5), (10, 30), (9, 28)]
    (gain,) = pooled["gains"]  # 1, 3, 2
    assert gain["gain_high"] == pytest.approx(2 + 4.302653 / np.sqrt(3)) and gain["gain_low"] < 0
    assert "95% t interval" in threshold_sweep.gains_table(pooled)


def test_one_episode_has_no_interval():
    row = {"kind": "fixed", "setting": 1, "k": 1.0, "return": 5.0, "return_low": None, "return_high": None}
    assert threshold_sweep.line(row).split() == ["fixed", "1", "1.00", "5.0"]
    assert "%" not in threshold_sweep.header(1) and threshold_sweep.header(20).endswith("95% bootstrap interval")


def test_a_fixed_length_at_the_same_looks_per_step():
    """k = 1.6 looks 0.625 times per step: halfway between 0.25 (k = 4) and 1 (k = 1), where 5 and 25 make 15."""
    rows = [("fixed", 1, 1.0, 25.0), ("fixed", 4, 4.0, 5.0), ("confidence", 0.5, 1.6, 18.0)]
    rows = [dict(zip(("kind", "setting", "k", "return"), row, strict=True)) for row in rows]
    assert threshold_sweep.over_fixed({"rows": rows}, 0.5) == pytest.approx(3)


def test_unlike_sweeps_are_not_pooled():
    for other in (sweep_of(1.0, 2.0, step=10), sweep_of(1.0, 2.0, 2, "other")):
        with pytest.raises(UsageError, match="of one task with different seeds"):
            threshold_sweep.pool([sweep_of(1.0, 2.0), other])
    other = sweep_of(1.0, 2.0, 2)
    other["rows"][0]["setting"] = 2
    with pytest.raises(UsageError, match="the same fixed lengths"):
        threshold_sweep.pool([sweep_of(1.0, 2.0), other])
    with pytest.raises(UsageError, match="after the same number of steps"):
        threshold_sweep.pool([sweep_of(1.0, 2.0) | {"step": 9}, sweep_of(1.0, 2.0, 2) | {"step": 10}])
    for flag, mine, others in (("episodes", 20, 50), ("sample", False, True)):
        with pytest.raises(UsageError, match=f"with the same --{flag}"):
            threshold_sweep.pool([sweep_of(1.0, 2.0) | {flag: mine}, sweep_of(1.0, 2.0, 2) | {flag: others}])
    with pytest.raises(UsageError, match="task, seed 2, step 9 is incomplete"):
        threshold_sweep.pool([sweep_of(1.0, 2.0) | {"complete": True}, sweep_of(1.0, 2.0, 2) | {"complete": False}])
