"""What the confidences are trained towards: is continuing a plan not worse than replanning?"""

import math

import torch
from torch import nn

DRIFT_RATE = 0.01
ADVANTAGE_RATE = 0.01


class ConfidenceTarget(nn.Module):
    """Labels for c_{j+1} from the advantage A_j of executing planned step j + 1 over replanning there,

        A_j = (Q(s, a_{1:j+1}) - Q(s, a_{1:j})) / gamma^j - alpha log pi(a_{j+1} | s),
        label = share of the critics with A_j - beta >= -delta.

    beta is an exponential average of the soft TD residual of recent steps: bootstrapped values lag while they
    grow or shrink, and each further real reward in a prefix moves A_j by about (1 - gamma) of that lag, in every
    state alike. delta = margin x running standard deviation of A_j: where A_j is noise, the plan is kept.

    Args:
        chunk_size: h > 1.
        discount: gamma.
        margin: delta in standard deviations of A_j.
    """

    def __init__(self, chunk_size, discount, margin):
        super().__init__()
        self.discount, self.margin = discount, margin
        self.register_buffer("drift", torch.zeros(()))
        self.register_buffer("moments", torch.zeros(2, chunk_size - 1))  # of A_j: mean, mean square
        self.register_buffer("count", torch.zeros(chunk_size - 1))  # updates in which position j was seen

    @staticmethod
    def uninformed(margin):
        """The label that pure noise has on average: P(x >= -margin) for a standard normal x."""
        return 0.5 * math.erfc(-margin / math.sqrt(2))

    def observe_drift(self, residual):
        """Move beta towards the mean soft TD residual r - alpha log pi + gamma V(s') - V(s), (R,)."""
        self.drift.lerp_(residual.mean(), DRIFT_RATE)

    def label(self, q_shorter, q_longer, entropy_cost, position):
        """Labels for the compared pairs of prefixes, after taking them into the running moments.

        Args:
            q_shorter, q_longer: Q(s, a_{1:j}) and Q(s, a_{1:j+1}), (C, B).
            entropy_cost: alpha log pi(a_{j+1} | s), (B,).
            position: j in 1..h-1, (B,).

        Returns:
            labels (B,) in [0, 1].
        """
        advantage = (q_longer - q_shorter) / self.discount**position - entropy_cost  # (C, B)
        self._observe(advantage, position)
        delta = self.margin * self.std()[position - 1]  # (B,)
        return (advantage - self.drift >= -delta).float().mean(0)

    def mean(self):
        """Running mean of A_1..A_{h-1}, (h - 1,)."""
        return self.moments[0]

    def std(self):
        """Running standard deviation of A_1..A_{h-1} over states and critics, (h - 1,)."""
        mean, square = self.moments
        return (square - mean * mean).clamp(min=0).sqrt()

    def _observe(self, advantage, position):
        steps = torch.arange(1, len(self.count) + 1, device=position.device)
        is_at = (position[:, None] == steps).to(advantage.dtype)  # (B, h - 1)
        seen = is_at.sum(0)  # (h - 1,)
        moments = torch.stack([advantage.mean(0), advantage.square().mean(0)]) @ is_at / seen.clamp(min=1)
        self.count += seen > 0
        # A plain average at first, so that delta means something from the first update on.
        rate = torch.where(seen > 0, (1 / self.count.clamp(min=1)).clamp(min=ADVANTAGE_RATE), 0.0)
        self.moments.lerp_(moments, rate)
