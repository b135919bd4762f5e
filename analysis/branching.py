"""Branches: states of an episode are restored, and played on from in several ways."""

from typing import NamedTuple

import numpy as np

from agent.chunking import ChunkExecutor, Plan
from envs.snapshot import restore, snapshot
from errors import UsageError
from rollout import checked_reset, checked_step


class Moment(NamedTuple):
    """A state of an episode, before its next action."""

    time: int  # steps since the reset
    obs: np.ndarray  # (O,)
    planned_at: np.ndarray | None  # (O,), where the latest plan was made; None before the first
    steps: int  # of that plan executed since; 0 before the first plan
    plan: Plan | None  # the latest plan; None before the first


class Branch(NamedTuple):
    """Steps that were played from a restored state."""

    rewards: list
    obs: np.ndarray  # (O,), the last
    terminated: bool


def branch_points(agent, env, seeds, commit_rule, count, candidates, where):
    """Play an episode per seed, draw states of it, then play it again and stop at these states.

    Actions are drawn from the policy, with independent noise: values and confidences are about that.

    Args:
        agent: `SACAgent`.
        env: an environment that `envs.snapshot` can restore.
        seeds: of the episodes.
        commit_rule: Plan -> executed length k.
        count: states in all, equally many in each episode, or fewer if episodes are too short. If there are fewer
            states than seeds, as many episodes as states are played.
        candidates: function (moments of an episode, whether it terminated) -> moments to draw from.
        where: beginning of the message of a RunError.

    Yields:
        (episode, seed, chosen, visits): number and seed of the episode, the moments that were drawn, and an iterator
        over (moment, state) for the same moments. At each, env is in that state and `restore(env, state)` returns to
        it. Afterwards environment and policy continue as if nothing had been played in between.

    Raises:
        UsageError: an episode with branches is not the same as without.
        RunError: an action, observation or reward is not finite.
    """
    seeds = seeds[:count]
    rng = np.random.default_rng(0)
    counts = [len(part) for part in np.array_split(np.arange(count), len(seeds))]
    for episode, (seed, share) in enumerate(zip(seeds, counts, strict=True), start=1):
        steps = []
        moments = candidates(list(_play(agent, env, seed, commit_rule, steps, where)), steps[-1].terminated)
        index = rng.choice(len(moments), min(share, len(moments)), replace=False)
        chosen = {moments[i].time: moments[i] for i in index}
        visits = _visits(agent, env, seed, commit_rule, steps, chosen, where)
        yield episode, seed, list(chosen.values()), visits


def branch(env, act, obs, actions, horizon, where):
    """Play on from the current state.

    Args:
        env: the environment.
        act: function obs (O,) -> action (A,), after the given actions.
        obs: current observation (O,).
        actions: the first actions, (n, A), n = 0, 1, ...
        horizon: steps, or fewer if the episode ends.
        where: beginning of the message of a RunError.

    Returns:
        Branch.

    Raises:
        RunError: an action, observation or reward is not finite.
    """
    rewards, terminated, truncated = [], False, False
    while len(rewards) < horizon and not (terminated or truncated):
        action = actions[len(rewards)] if len(rewards) < len(actions) else act(obs)
        obs, reward, terminated, truncated, _ = checked_step(env, action, where)
        rewards.append(float(reward))
    return Branch(rewards, obs, terminated)


def discounted_sum(values, discount):
    """sum_i discount^i values_i, i = 0, 1, ..., a float."""
    total, weight = 0.0, 1.0
    for value in values:
        total += weight * value
        weight *= discount
    return total


class _Step(NamedTuple):
    obs: bytes
    reward: float
    terminated: bool


def _play(agent, env, seed, commit_rule, steps, where):
    """The moments of an episode; each step is appended to `steps`."""
    made = {"obs": None, "plan": None, "steps": 0}

    def plan(obs):
        made.update(obs=obs, plan=agent.plan(obs, sample=True), steps=0)
        return made["plan"]

    executor = ChunkExecutor(plan, commit_rule)
    agent.plan_generator.manual_seed(seed)
    obs = checked_reset(env, seed, where)
    done = False
    while not done:
        yield Moment(len(steps), obs, made["obs"], made["steps"], made["plan"])
        action = executor(obs)
        made["steps"] += 1
        obs, reward, terminated, truncated, _ = checked_step(env, action, where)
        steps.append(_Step(obs.tobytes(), float(reward), bool(terminated)))
        done = terminated or truncated


def _visits(agent, env, seed, commit_rule, steps, chosen, where):
    """(moment, state) for each time in `chosen`, in an episode that has to be the same as `steps`."""
    steps_again = []
    for moment in _play(agent, env, seed, commit_rule, steps_again, where):
        if steps_again != steps[: len(steps_again)]:
            raise UsageError("the environment cannot be branched: after a branch an episode goes on in another way")
        if moment.time in chosen:
            state, policy_state = snapshot(env), agent.plan_generator.get_state()
            yield moment, state
            restore(env, state)
            agent.plan_generator.set_state(policy_state)
