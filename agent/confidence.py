"""What a confidence means: the probability that executing a planned step blind is not worse by more than a little."""

import torch
import torch.nn.functional as F

from agent.actor import squash


def advantage(actor, critic, reached, noise, alpha):
    """What the next planned step is worth at states s' that the first j steps of a plan from s led to,

        A_j = Q(s', a_{j+1}) - Q(s', a') - alpha (log pi(a_{j+1} | s) - log pi(a' | s')).

    a_{j+1} is what the policy plans at s for that moment, a' what it does when it looks again. Both are drawn with
    the same noise and valued as prefixes of one step at the same state, so errors that all values there or all prefix
    lengths have in common cancel; a difference of prefix lengths would have to be corrected for the lag of the values.

    Args:
        actor, critic: of the agent.
        reached: `replay_buffer.OpenLoopStates`; only sensible where 1 <= j < h.
        noise: (R, A), standard normal.
        alpha: temperature.

    Returns:
        A_j of each critic (C, R), without gradient; confidence logits at s (R, h - 1), with the head's gradient.
    """
    count, h = len(noise), actor.chunk_size
    mean, log_std, logits = actor(torch.cat([reached.planned_at, reached.obs]))  # (2R, h, A), (2R, h - 1)
    with torch.no_grad():
        step = reached.prefix_length[:, None, None].expand(-1, 1, noise.shape[1])  # index j of a chunk is step j + 1
        mean, log_std = (torch.cat([x[:count].gather(1, step), x[count:, :1]]) for x in (mean, log_std))  # (2R, 1, A)
        actions, log_density = squash(mean, log_std, noise.repeat(2, 1).unsqueeze(1))
        chunks = F.pad(actions, (0, 0, 0, h - 1))  # (2R, h, A)
        q = critic(reached.obs.repeat(2, 1), chunks, torch.ones_like(reached.prefix_length).repeat(2))  # (C, 2R)
        planned, fresh = (q - alpha * log_density.sum((1, 2))).split(count, dim=1)
    return planned - fresh, logits[:count]


def indifference(advantage, prefix_length, alpha, action_size):
    """A loss too small to matter, in units of return: the larger of two.

    Disagreement of the critics: the standard deviation of A_j over them, in quadratic mean over rows.
    What the policy gives up for its own randomness: alpha A / 2, if Q is quadratic there. That is large where nothing
    has been learned yet, and critics agree because they value all actions alike.

    Args:
        advantage: A_j, (C, R).
        prefix_length: j, (R,); 0 leaves a row out.
        alpha: temperature.
        action_size: A.
    """
    counts = (prefix_length > 0).to(advantage.dtype)  # (R,)
    disagreement = ((advantage.var(0) * counts).sum() / counts.sum().clamp(min=1)).sqrt()
    return torch.maximum(disagreement, alpha * action_size / 2)


def cross_entropy(logits, advantage, prefix_length, tolerance):
    """Cross-entropy of c_{j+1} towards the share of critics with A_j >= -tolerance, mean over rows with j >= 1.

    Args:
        logits: (R, h - 1).
        advantage: A_j, (C, R).
        prefix_length: j, (R,); 0 leaves a row out.
        tolerance: by how much executing the step may be worse, in units of return.

    Returns:
        the loss; labels (R,); which planned step each row is about, (R, h - 1), zero or one.
    """
    label = (advantage >= -tolerance).to(logits.dtype).mean(0)
    is_at = F.one_hot(prefix_length, logits.shape[1] + 1)[:, 1:].to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, label[:, None].expand_as(logits), reduction="none")
    return (losses * is_at).sum() / is_at.sum().clamp(min=1), label, is_at
