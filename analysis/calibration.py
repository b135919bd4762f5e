"""Calibration: what executing one more planned step changes, against what was predicted.

At states inside plans the episode is branched. One branch executes the next planned action, then follows the policy;
the other replans there and follows the policy. Both draw from the same random streams. The difference of their
discounted returns is the realised advantage of continuing; the critics predict it. Single differences are noisy, so
pairs are sorted by the prediction, split into ten groups and averaged. Each pair is branched twice: how well one noisy
repeat predicts the other is there for comparison; a prediction without noise of its own can do better.
"""

import numpy as np
import torch
from scipy.stats import mannwhitneyu, spearmanr

from agent.chunking import ChunkExecutor
from analysis.branching import branch, branch_points, discounted_sum
from analysis.statistics import error_bars, interval_text, mean_interval, mean_interval_name
from analysis.style import COLOURS, GREY
from envs.snapshot import reseed, restore
from errors import UsageError
from replay_buffer import OpenLoopStates
from rollout import check_finite, episode_seed

NUM_GROUPS = 10  # of pairs, sorted by prediction or confidence
NUM_REPEATS = 2  # of each pair of branches


def pairs(agent, env, seeds, commit_rule, discount, horizon, num_pairs):
    """Branch at `num_pairs` states, equally many in each episode, drawn from all states with 1 <= j < h.

    Actions are drawn from the policy, as in training: values and confidences are about that.

    Args:
        agent: `SACAgent` with critics.
        env: an environment that `envs.snapshot` can restore.
        seeds: of the episodes.
        commit_rule: Plan -> executed length k.
        discount: of the returns.
        horizon: steps of a branch, or fewer if the episode ends.
        num_pairs: in all; fewer if episodes are too short. Fewer pairs than seeds play as many episodes as pairs.

    Yields:
        dict: episode, time, position j + 1 of the planned step, confidence, predicted, realised (one per repeat).

    Raises:
        UsageError: an episode with branches is not the same as without, or episodes have no such states.
        RunError: an action, observation, reward or prediction is not finite.
    """
    points = branch_points(agent, env, seeds, commit_rule, num_pairs, _inside_plans, "calibration")
    for episode, seed, chosen, visits in points:
        if not chosen:
            raise UsageError("episodes end before a plan could be continued: there is nothing to compare")
        predicted = dict(zip((moment.time for moment in chosen), _predict(agent, chosen), strict=True))
        check_finite(list(predicted.values()), "a predicted advantage", f"episode {episode}")
        for moment, state in visits:
            yield {
                "episode": episode,
                "time": moment.time,
                "position": moment.steps + 1,
                "confidence": float(moment.plan.confidences[moment.steps]),
                "predicted": predicted[moment.time],
                "realised": _realise(agent, env, moment, state, seed, commit_rule, discount, horizon),
            }


def _inside_plans(moments, terminated):
    """The moments where the next step of the plan, or a fresh plan, may be executed."""
    return [moment for moment in moments if moment.plan is not None and moment.steps < len(moment.plan.actions)]


def _realise(agent, env, moment, state, seed, commit_rule, discount, horizon):
    """Realised advantages, one per repeat."""
    realised = []
    for repeat in range(NUM_REPEATS):
        returns = []
        for first in (moment.plan.actions[moment.steps][None], ()):
            restore(env, state)
            stream = episode_seed(seed, moment.time, repeat)
            reseed(env, stream)
            agent.plan_generator.manual_seed(stream)
            executor = ChunkExecutor(lambda obs: agent.plan(obs, sample=True), commit_rule)
            rewards = branch(env, executor, moment.obs, first, horizon, "calibration").rewards
            returns.append(discounted_sum(rewards, discount))
        realised.append(returns[0] - returns[1])
    return realised


def _predict(agent, moments):
    columns = zip(*((m.planned_at, m.steps, m.obs) for m in moments), strict=True)
    planned_at, steps, obs = (torch.from_numpy(np.array(column)) for column in columns)
    return agent.predict_advantage(OpenLoopStates(planned_at, steps, obs)).tolist()


def csv_rows(pairs):
    """What `pairs` yielded, with a column per repeat."""
    repeats = [f"realised_{i + 1}" for i in range(NUM_REPEATS)]
    flat = ({name: value for name, value in pair.items() if name != "realised"} for pair in pairs)
    return [row | dict(zip(repeats, pair["realised"], strict=True)) for row, pair in zip(flat, pairs, strict=True)]


def report(rows):
    """What `pairs` found.

    Returns:
        dict: mean realised advantage, its interval and the intervals' names; for the prediction and for the confidence,
        Spearman's rank correlation with the realised advantage, that of the means of ten groups of equal size, the AUC
        for its sign, and the groups themselves; the AUC of one repeat for the sign of the other.

    Raises:
        UsageError: fewer pairs than groups.
    """
    if len(rows) < NUM_GROUPS:
        raise UsageError(f"the episodes have {len(rows)} pairs only, and {NUM_GROUPS} are needed: play more episodes")
    sizes = len(rows) // NUM_GROUPS, -(-len(rows) // NUM_GROUPS)  # of groups: they can differ by one pair
    realised = np.array([row["realised"] for row in rows])  # (N, 2)
    result = {
        "num_pairs": len(rows),
        "realised": _interval(realised.mean(1)),
        "interval": mean_interval_name(len(rows)),
        "group_interval": " or ".join(filter(None, dict.fromkeys(map(mean_interval_name, sizes)))),
        "auc_other_repeat": _auc(realised[:, ::-1], realised),
    }
    for name in ("predicted", "confidence"):
        score = np.array([row[name] for row in rows])
        groups = []
        for index in np.array_split(np.argsort(score, kind="stable"), NUM_GROUPS):
            groups.append({name: float(score[index].mean()), "realised": _interval(realised[index].mean(1))})
        result[name] = {
            "spearman": _rank_correlation(score, realised.mean(1)),
            "spearman_groups": _rank_correlation([g[name] for g in groups], [g["realised"]["mean"] for g in groups]),
            "auc": _auc(score[:, None], realised),
            "groups": groups,
        }
    return result


def other_repeat_auc(result):
    """AUC of one repeat for the sign of the other, from a report; older files call it a ceiling."""
    return result["auc_ceiling" if "auc_ceiling" in result else "auc_other_repeat"]


def _interval(values):
    mean, low, high = mean_interval(values)
    return {"mean": mean, "low": low, "high": high}


def _auc(score, realised):
    """P(score where the realised advantage is positive > score where it is negative), mean over repeats.

    None if no advantage is positive, or none negative.
    """
    values = []
    for scores, gains in zip(np.broadcast_to(score.T, realised.T.shape), realised.T, strict=True):
        gained, lost = scores[gains > 0], scores[gains < 0]
        if not (len(gained) and len(lost)):
            return None
        values.append(mannwhitneyu(gained, lost).statistic / (len(gained) * len(lost)))
    return float(np.mean(values))


def _rank_correlation(one, other):
    """Spearman's; None where one of them is constant."""
    return None if np.ptp(one) == 0 or np.ptp(other) == 0 else float(spearmanr(one, other).statistic)


def table(result):
    """A report as text."""
    realised, lines = result["realised"], []
    text = f"{result['num_pairs']} pairs, realised advantage {_with_interval(realised)}"
    lines.append(f"{text} ({result['interval']})")
    for name in ("predicted", "confidence"):
        score = result[name]
        lines += ["", f"{name:>10} {'realised':>10}   {result['group_interval']}".rstrip()]
        lines += [f"{group[name]:10.4f} {_with_interval(group['realised'])}" for group in score["groups"]]
        values = {"rank correlation": "spearman", "of the groups": "spearman_groups", "AUC": "auc"}
        lines.append(", ".join(f"{text} {_number(score[key])}" for text, key in values.items()))
    lines += ["", f"AUC of one noisy repeat for the sign of the other: {_number(other_repeat_auc(result))}"]
    return "\n".join(lines)


def _with_interval(value):
    return f"{value['mean']:10.4f}   {interval_text(value['low'], value['high'], digits=4)}".rstrip()


def _number(value):
    return "undefined" if value is None else f"{value:.3f}"


def draw(result):
    """What `evaluate.py --calibration` wrote, as a Figure: realised advantage by prediction and by confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("predicted", "confidence"), strict=True):
        groups = result[name]["groups"]
        x = np.array([group[name] for group in groups])
        mean, low, high = ([group["realised"][part] for group in groups] for part in ("mean", "low", "high"))
        axes.axhline(0, color=GREY, linewidth=1)
        if name == "predicted":
            axes.axline((0, 0), slope=1, color=GREY, linestyle=":", label="as predicted")
        bars = error_bars(mean, low, high)
        axes.errorbar(x, mean, bars, color=COLOURS[0], marker="o", linestyle="none", capsize=2)
        auc = f"AUC {_number(result[name]['auc'])} (other repeat {_number(other_repeat_auc(result))})"
        axes.set(xlabel=f"{name}; {result['num_pairs']} pairs in ten groups", title=auc)
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", nbins=5)
    interval = result.get("group_interval", "95% bootstrap interval")  # older files do not name it
    figure.axes[0].set_ylabel("realised advantage of continuing")
    title = f"bars: {interval}" if interval else None
    figure.legend(loc="outside lower center", ncols=1, frameon=False, title=title)
    figure.suptitle(f"{result['title']}, branches of {result['horizon']} steps")
    return figure
