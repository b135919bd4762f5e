"""Confidences and their labels.

A confidence is the probability that executing a planned action costs at most delta more than replanning there.
docs/algorithm.md, section "Confidences", derives the formulas.
"""

import torch
import torch.nn.functional as F

from agent.actor import squash


def advantage(actor, critic, reached, noise, alpha):
    """Value of the next planned action less that of a fresh one, at states s' that j planned actions from s led to,

        A_j = Q(s', a_{j+1}) - Q(s', a') - alpha (log pi(a_{j+1} | s) - log pi(a' | s')).

    in units of return. a_{j+1} is drawn from what the policy plans at s for this step, a' from the policy at s'. Both
    are drawn with the same noise and valued at the same state as prefixes of one action, so shared value errors cancel.

    Args:
        actor, critic: `Actor`, `Critic`.
        reached: `replay_buffer.OpenLoopStates`, normalised. Rows with j = 0 are padding: mask their results.
        noise: (R, A), standard normal.
        alpha: temperature, a scalar tensor.

    Returns:
        A_j of each critic (C, R), without gradient; confidence logits at s (R, h - 1), with gradient.
    """
    count, h = len(noise), actor.chunk_size
    mean, log_std, logits = actor(torch.cat([reached.planned_at, reached.obs]))  # (2R, h, A), (2R, h - 1)
    with torch.no_grad():
        step = reached.prefix_length[:, None, None].expand(-1, 1, noise.shape[1])  # index j of a chunk is step j + 1
        mean, log_std = (torch.cat([x[:count].gather(1, step), x[count:, :1]]) for x in (mean, log_std))  # (2R, 1, A)
        actions, log_slope = squash(mean, log_std, noise.repeat(2, 1).unsqueeze(1))
        chunks = F.pad(actions, (0, 0, 0, h - 1))  # (2R, h, A)
        q = critic(reached.obs.repeat(2, 1), chunks, torch.ones_like(reached.prefix_length).repeat(2))  # (C, 2R)
        # log pi is the log density of the noise less log_slope. The noise is shared, and its density cancels.
        planned, fresh = (q + alpha * log_slope.sum((1, 2))).split(count, dim=1)
    return planned - fresh, logits[:count]


def delta(advantage, prefix_length, alpha, action_size, margin):
    """The loss that still counts as none: delta = margin * max(disagreement, alpha A / 2), in units of return.

    The disagreement is the standard deviation of A_j over critics, in quadratic mean over rows: critics cannot tell a
    smaller loss from none. alpha A / 2 is what a Gaussian policy of temperature alpha loses by its own noise where Q is
    quadratic. It matters early in training, when critics agree because they value all actions alike.

    Args:
        advantage: A_j, (C, R).
        prefix_length: j, (R,); rows with j = 0 are left out.
        alpha: temperature, a scalar tensor.
        action_size: A.
        margin: the flag --confidence_margin.

    Returns:
        a scalar tensor.
    """
    counts = (prefix_length > 0).to(advantage.dtype)  # (R,)
    disagreement = ((advantage.var(0) * counts).sum() / counts.sum().clamp(min=1)).sqrt()
    return margin * torch.maximum(disagreement, alpha * action_size / 2)


def cross_entropy(logits, advantage, prefix_length, delta):
    """Cross-entropy of c_{j+1} with its label, the share of critics with A_j >= -delta; mean over rows with j >= 1.

    Args:
        logits: (R, h - 1).
        advantage: A_j, (C, R).
        prefix_length: j, (R,); rows with j = 0 are left out.
        delta: see `delta`, a scalar tensor.

    Returns:
        loss, a scalar in nats; labels (R,); one-hot j (R, h - 1), all zero where j = 0.
    """
    label = (advantage >= -delta).to(logits.dtype).mean(0)
    is_at = F.one_hot(prefix_length, logits.shape[1] + 1)[:, 1:].to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, label[:, None].expand_as(logits), reduction="none")
    return (losses * is_at).sum() / is_at.sum().clamp(min=1), label, is_at
