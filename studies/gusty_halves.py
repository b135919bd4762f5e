"""Returns of the gusty and of the calm half of envs/gusty.py, by confidence and by fixed lengths.

    python -m studies.gusty_halves RUN_DIR [RUN_DIR ...] --output FILE.json

Each run plays the same episodes with every fixed length and with its confidences.
"""

from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from agent.chunking import by_confidence
from analysis.saved_run import load_run
from cli import Parser
from config import POSITIVE_INT
from envs import make_env
from errors import UsageError, report_errors
from rollout import episode_seed, play
from storage.files import check_writable, json_bytes, write_atomically


class ByHalf(gym.Wrapper):
    """Sums the rewards of each half of the period: gusty, calm."""

    returns = (0.0, 0.0)

    def step(self, action):
        """As the environment's."""
        is_calm = not self.unwrapped.is_gusty()
        obs, reward, *rest = self.env.step(action)
        self.returns = tuple(value + reward * (half == is_calm) for half, value in enumerate(self.returns))
        return obs, reward, *rest


def halves(run_dir, episodes):
    """{commit rule: [mean return in the gusty half, in the calm half]}, per episode.

    Raises:
        UsageError: the run cannot be played, or is not on Gusty.
    """
    agent, config, _ = load_run(run_dir)
    if not hasattr(make_env(config.env).unwrapped, "is_gusty"):
        raise UsageError(f"{run_dir} is a run on {config.env}, which has no gusty half")
    seeds = [episode_seed(0, episode) for episode in range(episodes)]
    rules = {f"fixed {k}": lambda plan, k=k: k for k in range(1, config.chunk_size + 1)}
    result = {}
    for name, commit_rule in (rules | {"by confidence": by_confidence(config.confidence_threshold)}).items():
        env = ByHalf(make_env(config.env, config.action_repeat))
        play(agent, env, seeds, commit_rule)
        result[name] = [value / episodes for value in env.returns]
    return result


def main():
    """The command line; every error is one sentence."""
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR")
    parser.add_argument("--episodes", type=POSITIVE_INT, default=50, help="(default: 50)")
    parser.add_argument("--output", required=True, metavar="FILE.json")
    args = parser.parse_args()
    parser.refuse_existing([args.output], "move it")
    if len({Path(run_dir).name for run_dir in args.run_dirs}) < len(args.run_dirs):
        parser.error("argument RUN_DIR: two directories have the same name")
    torch.set_num_threads(1)
    with report_errors():
        check_writable(args.output)
        runs = {Path(run_dir).name: halves(run_dir, args.episodes) for run_dir in args.run_dirs}
        write_atomically(args.output, json_bytes(runs))
        for half, name in enumerate(("gusty", "calm")):
            lengths = next(iter(runs.values()))
            means = (f"{key} {np.mean([run[key][half] for run in runs.values()]):.2f}" for key in lengths)
            print(f"{name:>6} half: " + ", ".join(means))
            for run_name, run in runs.items():
                best = max(value[half] for key, value in run.items() if key != "by confidence")
                print(f"  {run_name}: by confidence {run['by confidence'][half] / best:.3f} of the best fixed length")


if __name__ == "__main__":
    main()
