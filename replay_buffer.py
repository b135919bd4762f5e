"""Replay: one ring of single steps; windows are cut when sampled."""

from typing import NamedTuple

import torch

RECENT_STEPS = 1000
RECENT_SHARE = 8  # one recent step for so many windows


class Recent(NamedTuple):
    """Single steps drawn from the last RECENT_STEPS."""

    obs: torch.Tensor  # (R, O)
    reward: torch.Tensor  # (R,)
    discount: torch.Tensor  # (R,) gamma (1 - terminated)
    next_obs: torch.Tensor  # (R, O)


class Batch(NamedTuple):
    """Windows of j executed steps, j <= h."""

    obs: torch.Tensor  # (B, O) s_t
    actions: torch.Tensor  # (B, h, A) a_t...; what stands after the first j is not part of the window
    length: torch.Tensor  # (B,) j
    reward: torch.Tensor  # (B,) sum_{i<j} gamma^i r_{t+i}
    discount: torch.Tensor  # (B,) gamma^j (1 - terminated)
    next_obs: torch.Tensor  # (B, O) s_{t+j}
    recent: Recent | None


class ReplayBuffer:
    """A ring of rows [obs | action | reward | left], float32.

    A row is a step, with left = steps left in the executed plan, this one included (>= 1), or an end mark, with
    obs = the observation after the last step and left = 0, or -1 if the environment terminated there. The newest
    step is always followed by an end mark; the next step of the episode overwrites it. So the next observation
    stands in the next row, and no window can cross an episode's end or the ring's write position.

    Args:
        obs_size, action_size: O, A.
        capacity: rows: one a step and one an episode.
        chunk_size: h, the longest window.
        discount: gamma.
        committed_windows: cut windows at the end of the executed plan as well.
        device: where batches go.
        generator: CPU random stream of the sampling.
    """

    def __init__(self, obs_size, action_size, capacity, chunk_size, discount, committed_windows, device, generator):
        self.obs_size, self.action_size, self.capacity = obs_size, action_size, capacity
        self.chunk_size, self.committed_windows = chunk_size, committed_windows
        self.device, self.generator = torch.device(device), generator
        self.rows = torch.zeros(capacity, obs_size + action_size + 2)
        self._numpy = self.rows.numpy()  # the same memory: single rows are written faster
        self.head = 0  # where the next step goes
        self.size = 0  # rows in use, the newest end mark included
        self._offsets = torch.arange(chunk_size + 1)
        self._discounts = (discount ** torch.arange(chunk_size + 1, dtype=torch.float64)).float().to(self.device)

    def add(self, obs, action, reward, next_obs, terminated, truncated, steps_left=1):
        """Append a step.

        Args:
            obs, next_obs: (O,).
            action: (A,).
            reward: float.
            terminated: the next state has no future; its value is zero.
            truncated: the episode ends here all the same.
            steps_left: in the executed plan, this step included.
        """
        action_end = self.obs_size + self.action_size
        row = self._numpy[self.head]
        row[: self.obs_size] = obs
        row[self.obs_size : action_end] = action
        row[action_end] = reward
        row[action_end + 1] = steps_left
        self.head = (self.head + 1) % self.capacity
        end = self._numpy[self.head]
        end[: self.obs_size] = next_obs
        end[-1] = -1 if terminated else 0
        self.size = max(self.size, self.head + 1) if self.head else self.capacity
        if terminated or truncated:
            self.head = (self.head + 1) % self.capacity

    def sample(self, batch_size):
        """Draw B windows: the start uniform over all steps, j uniform over 1..(steps left in the episode, at most h).

        For h > 1 the batch also has R = B / 8 single steps, drawn uniformly from the newest ones.
        """
        starts = self._draw_steps(batch_size, lambda n: torch.randint(self.size, (n,), generator=self.generator))
        rows = self._gather(starts, self._offsets)  # (B, h + 1, O + A + 2)
        uniform = torch.rand(batch_size, generator=self.generator).to(self.device)
        recent = self._recent(max(1, batch_size // RECENT_SHARE)) if self.chunk_size > 1 else None
        obs, actions, reward, left = self._columns(rows)

        # Steps up to the first end mark; no mark means h or more.
        available = (left > 0).cumprod(1).sum(1).clamp(max=self.chunk_size)  # (B, h + 1) -> (B,)
        if self.committed_windows:
            available = torch.minimum(available, left[:, 0].long())
        length = 1 + (uniform * available).long()
        inside = self._offsets.to(self.device)[:-1] < length[:, None]  # (B, h)
        last = length[:, None]
        terminated = left.gather(1, last).squeeze(1) < 0
        next_obs = obs.gather(1, last.unsqueeze(-1).expand(-1, -1, self.obs_size)).squeeze(1)  # (B, O)
        return Batch(
            obs=obs[:, 0],
            actions=actions[:, :-1],
            length=length,
            reward=torch.where(inside, self._discounts[:-1] * reward[:, :-1], 0.0).sum(1),
            discount=self._discounts[length] * ~terminated,
            next_obs=next_obs,
            recent=recent,
        )

    def _recent(self, recent_size):
        newest = min(RECENT_STEPS, self.size)

        def draw(n):
            back = torch.randint(1, newest + 1, (n,), generator=self.generator)
            return (self.head - back) % self.capacity

        rows = self._gather(self._draw_steps(recent_size, draw), self._offsets[:2])  # (R, 2, O + A + 2)
        obs, _, reward, left = self._columns(rows)
        return Recent(obs[:, 0], reward[:, 0], self._discounts[1] * (left[:, 1] >= 0), obs[:, 1])

    def _draw_steps(self, count, draw):
        """Row indices (count,) of steps; draws that hit an end mark are drawn again."""
        index = draw(count)
        while True:
            wrong = (self.rows[index, -1] < 1).nonzero().squeeze(1)
            if not len(wrong):
                return index
            index[wrong] = draw(len(wrong))

    def _gather(self, starts, offsets):
        """Rows from each start on, on the device: (B, len(offsets), O + A + 2)."""
        index = (starts[:, None] + offsets) % self.capacity
        rows = self.rows.index_select(0, index.flatten()).view(*index.shape, -1)
        return rows.to(self.device, non_blocking=True)

    def _columns(self, rows):
        obs, actions, rest = rows.split([self.obs_size, self.action_size, 2], dim=-1)
        return obs, actions, *rest.unbind(-1)
