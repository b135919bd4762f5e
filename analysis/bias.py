"""Bias of the values: Q(s, a_{1:j}) and V(s) of the critics, less the discounted soft returns of the policy.

At states that the policy visits, one plan a_{1:h} is drawn. For each j the simulator is branched: the first j planned
actions are executed, then the policy is followed. docs/evaluation.md, section "Bias", has the formulas.
"""

import numpy as np
import torch

from agent.chunking import ChunkExecutor
from analysis.branching import branch, branch_points, discounted_sum
from envs.snapshot import reseed, restore
from errors import UsageError
from rollout import check_finite, episode_seed


def states(agent, env, seeds, commit_rule, horizon, num_states):
    """Compare predicted and realised values at `num_states` states, equally many in each episode.

    They are drawn from all states of the episode with at least h steps before a termination, and at least `horizon`
    steps, or half the episode if that is shorter, before a time limit.

    Args:
        agent: `SACAgent` with critics.
        env: an environment that `envs.snapshot` can restore.
        seeds: of the episodes.
        commit_rule: Plan -> executed length k.
        horizon: steps of a branch, at least h; fewer if the episode ends.
        num_states: in all; fewer if episodes are too short. Fewer states than seeds play as many episodes as states.

    Yields:
        dict: episode, time, k, tail_weight (mean over branches, see `_branch_value`); for each value q_1, ..., q_h, v
        its prediction, mean and minimum over critics, and its realised value: q_1, q_1_min, q_1_realised, ...

    Raises:
        UsageError: an episode with branches is not the same as without, or all episodes are shorter than h steps.
        RunError: an action, observation, reward or value is not finite.
    """
    h, is_empty = agent.chunk_size, True

    def candidates(moments, terminated):
        left = h if terminated else max(h, min(horizon, len(moments) // 2))
        return [moment for moment in moments if moment.time + left <= len(moments)]

    points = branch_points(agent, env, seeds, commit_rule, num_states, candidates, "bias")
    for episode, seed, _, visits in points:
        for moment, state in visits:
            stream, is_empty = episode_seed(seed, moment.time), False
            row = {"episode": episode, "time": moment.time}
            row |= _compare(agent, env, moment.obs, state, stream, commit_rule, horizon)
            check_finite(list(row.values()), "a value", f"episode {episode}, step {moment.time}")
            yield row
    if is_empty:
        raise UsageError(f"all episodes are shorter than a chunk of {h} steps: there is nothing to compare")


@torch.no_grad()
def _compare(agent, env, obs, state, stream, commit_rule, horizon):
    """All but `episode` and `time` of what `states` yields."""
    h = agent.chunk_size
    generator = torch.Generator().manual_seed(stream)
    # Of the plan at the state, of later plans, and of the plan after the last step. Branches of all j share them.
    z = torch.randn((horizon + 2, h, agent.action_size), generator=generator)
    k, actions, log_prob, q, v = _values(agent, obs, z[0], commit_rule)
    realised, tail_weights = [], []
    for j in range(1, h + 1):
        restore(env, state)
        reseed(env, stream)
        value, tail_weight = _branch_value(agent, env, obs, actions[:j], z[1:], commit_rule, horizon)
        realised.append(value)
        tail_weights.append(tail_weight)
    # V is about the same plan, executed up to k, so its branch is that of j = k.
    realised.append(realised[k - 1] - _entropy_cost(agent, log_prob[:k]))
    predicted = np.concatenate([q, v[:, None]], axis=1)  # (C, h + 1)
    row = {"k": k, "tail_weight": float(np.mean(tail_weights))}
    for name, prediction, value in zip(_names(h), predicted.T, realised, strict=True):
        row |= {name: float(prediction.mean()), f"{name}_min": float(prediction.min()), f"{name}_realised": value}
    return row


def _values(agent, obs, z, commit_rule):
    """The plan at obs (O,) that the noise z (h, A) gives, and its values.

    Returns:
        k; actions (h, A); log_prob (h,); Q_c(s, a_{1:j}) (C, h); V_c(s) (C,), with the target critics as in the
        bootstrap. Numpy arrays.
    """
    plan = _plan(agent, obs, z)
    k, lengths = commit_rule(plan), torch.arange(1, agent.chunk_size + 1)
    obs = agent.actor.normalizer(torch.tensor(obs)).unsqueeze(0)  # (1, O)
    chunk, log_prob, _ = agent.actor.sample(obs, z.unsqueeze(0))  # (1, h, A), (1, h)
    q = agent.critic(obs.expand(len(lengths), -1), chunk.expand(len(lengths), -1, -1), lengths)  # (C, h)
    target = agent.critic_target(obs, chunk, lengths[k - 1 : k])[:, 0]  # (C,)
    log_prob = log_prob[0].numpy()
    return k, plan.actions, log_prob, q.numpy(), target.numpy() - _entropy_cost(agent, log_prob[:k])


def _branch_value(agent, env, obs, actions, z, commit_rule, horizon):
    """What Q(obs, actions) predicts: discounted rewards less alpha times the discounted log-likelihoods of all actions
    but the given ones.

    After the last of n steps, unless the episode terminated, it continues with gamma^n times the minimum over critics
    of V.

    Args:
        obs: of the environment's current state, (O,).
        actions: the first j of a plan, (j, A).
        z: noise of the plans after them, (horizon + 1, h, A).

    Returns:
        the value; the tail weight gamma^n, 0 after a termination.
    """
    discount, planned_at = agent.config.discount, []

    def plan(obs):
        planned_at.append(obs)
        return _plan(agent, obs, z[len(planned_at) - 1])

    executor = ChunkExecutor(plan, commit_rule)
    path = branch(env, executor, obs, actions, horizon, "bias")
    n = len(path.rewards)
    value = discounted_sum(path.rewards, discount)
    if planned_at:
        at = agent.actor.normalizer(torch.tensor(np.array(planned_at)))  # (P, O)
        _, log_prob, _ = agent.actor.sample(at, z[: len(at)])  # (P, h)
        executed = [values[:k] for values, k in zip(log_prob.numpy(), executor.lengths, strict=True)]
        executed = np.concatenate(executed)[: n - len(actions)]
        value -= discount ** len(actions) * _entropy_cost(agent, executed)
    if path.terminated:
        return value, 0.0
    *_, v = _values(agent, path.obs, z[len(planned_at)], commit_rule)
    return value + discount**n * float(v.min()), discount**n


def _plan(agent, obs, z):
    return agent.plan(obs, sample=True, noise=z.numpy())


def _entropy_cost(agent, log_prob):
    """alpha sum_i gamma^{i-1} log pi(a_i) of consecutive actions, a float."""
    return float(agent.alpha) * discounted_sum(log_prob.tolist(), agent.config.discount)


def _names(h):
    return [*(f"q_{j}" for j in range(1, h + 1)), "v"]


def report(rows, chunk_size):
    """Means over states.

    Args:
        rows: what `states` yielded.
        chunk_size: h.

    Returns:
        dict: num_states, mean tail_weight and k; values, one dict per q_1, ..., q_h, v: predicted, predicted_min (mean
        and minimum over critics), realised, bias and bias_min (predicted less realised), each of these a mean over
        states; bias_error and bias_min_error, see `_standard_error`; relative, bias / |realised| (None if that is 0).
    """
    result = {
        "num_states": len(rows),
        "tail_weight": float(np.mean([row["tail_weight"] for row in rows])),
        "k": float(np.mean([row["k"] for row in rows])),
        "values": [],
    }
    episodes = [row["episode"] for row in rows]
    for name in _names(chunk_size):
        mean, low, realised = (np.array([row[name + part] for row in rows]) for part in ("", "_min", "_realised"))
        value = {"name": name}
        for key, numbers in (
            ("predicted", mean),
            ("predicted_min", low),
            ("realised", realised),
            ("bias", mean - realised),
            ("bias_min", low - realised),
        ):
            value[key] = float(numbers.mean())
            if key.startswith("bias"):
                value[f"{key}_error"] = _standard_error(numbers, episodes)
        value["relative"] = value["bias"] / abs(value["realised"]) if value["realised"] else None
        result["values"].append(value)
    return result


def _standard_error(values, episodes):
    """Of the mean of values whose errors are independent between episodes, not within them; None for one episode.

    The cluster-robust estimate: sqrt(G / (G - 1) sum_g (sum_{i in g} (x_i - mean))^2) / n, for G episodes.
    """
    _, index = np.unique(episodes, return_inverse=True)
    sums = np.bincount(index, values - values.mean())
    count = len(sums)
    return float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)) if count > 1 else None


def table(result):
    """A report, with `horizon` and `alpha`, as text."""
    header = f" {'predicted':>10} {'bias':>9} {'s.e.':>7}"
    lines = [
        f"{result['num_states']} states, branches of {result['horizon']} steps, tail weight "
        f"{result['tail_weight']:.4f}, mean k {result['k']:.2f}, alpha {result['alpha']:.4g}",
        f"{'':16} {'mean over critics':>28} {'':9} {'minimum over critics':>28}",
        f"{'value':>5} {'realised':>10}{header} {'relative':>9}{header}",
    ]
    for value in result["values"]:
        mean, low = (
            f" {value[f'predicted{part}']:10.3f} {value[f'bias{part}']:9.3f} {_number(value[f'bias{part}_error'], 7)}"
            for part in ("", "_min")
        )
        relative = _number(value["relative"], 9)
        lines.append(f"{value['name']:>5} {value['realised']:10.3f}{mean} {relative}{low}".rstrip())
    return "\n".join(lines)


def _number(value, width):
    return f"{'':{width}}" if value is None else f"{value:{width}.3f}"
