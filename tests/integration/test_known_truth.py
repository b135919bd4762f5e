"""Confidences after a short training where the truth is known (envs/gusty.py)."""

import json
import subprocess
import sys

import numpy as np
import torch

from agent.chunking import by_confidence
from analysis.threshold_sweep import shuffled
from envs import make_env
from envs.gusty import PERIOD, observation
from rollout import play
from tests.helpers import ROOT, run_dir

FLAGS = (
    "--env Gusty-v0 --windows committed --discount 0.9 --hidden_dim 64 --batch_size 64 "
    "--num_seed_steps 500 --num_train_steps 4000 --num_eval_episodes 1 --no-save_video --no-log_save_tb"
).split()


def test_confidences_are_lower_where_a_gust_can_come(tmp_path, make_agent):
    """Only phases count from which all planned steps lie in the same half of the turn.

    c_5 is left out: where gusts keep plans short, prefixes of all 5 actions are too rare to be valued in 4,000 steps.
    """
    directory = run_dir(tmp_path, *FLAGS)
    agent = make_agent(4, 1, hidden_dim=64)
    agent.actor.load_state_dict(torch.load(directory / "policy.pt", weights_only=True)["actor"])

    def confidences(phases):
        on_target = [observation(np.sin(2 * np.pi * phase / PERIOD), phase) for phase in phases]
        return np.mean([agent.plan(obs, sample=False).confidences[1:4] for obs in on_target], axis=0)

    gusty, calm = confidences(range(0, 16)), confidences(range(20, 36))
    assert (gusty < calm - 0.1).all() and (gusty < 0.4).all()  # each of c_2, c_3, c_4
    assert gusty.mean() < calm.mean() - 0.2

    env, seeds = make_env("Gusty-v0"), range(20)
    returns, lengths = play(agent, env, seeds, by_confidence(0.3))
    assert 1.3 < np.mean(np.concatenate(lengths)) < 4  # plans are kept, and not everywhere
    control, _ = play(agent, env, seeds, shuffled(np.concatenate(lengths)))
    assert np.mean(returns) > np.mean(control) + 8

    output = tmp_path / "halves.json"
    script = [sys.executable, "-m", "studies.gusty_halves", str(directory)]
    result = subprocess.run(
        [*script, "--episodes", "20", "--output", str(output)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    (run,) = json.loads(output.read_text()).values()
    best = np.max([run[f"fixed {k}"] for k in range(1, 6)], axis=0)
    assert (np.array(run["by confidence"]) > 0.93 * best).all()  # in the gusty and in the calm half
    assert run["fixed 5"][0] < 0.5 * best[0] < best[1] <= 100  # at most 1 per step
