"""The replay buffer: a ring buffer of single steps, from which windows are cut at sampling time."""

from typing import NamedTuple

import numpy as np
import torch

from utils import memory_limit

# Confidence labels must be about the current policy, so open-loop states are drawn from the newest rows. Five episodes
# of DM Control, so that a batch mixes episodes.
RECENT_ROWS = 5000
# To save time: an open-loop state costs about as much arithmetic as a window.
WINDOWS_PER_OPEN_LOOP_STATE = 4
# The smallest capacity is h + MARGIN rows: h + 1 before an open-loop state, its own row, the newest step, its end mark.
MARGIN = 4
PLANNED, REWARD, LEFT = -3, -2, -1  # columns of a row after observation and action


class OpenLoopStates(NamedTuple):
    """States in the newest RECENT_ROWS rows that the first j < h actions of a plan led to without a look.

    Rows with j = 0 are padding, where the drawn row is not such a state; mask them.
    """

    planned_at: torch.Tensor  # (R, O) s_t, at which the plan was made
    prefix_length: torch.Tensor  # (R,) j
    obs: torch.Tensor  # (R, O) s_{t+j}


class Batch(NamedTuple):
    """Windows of j steps, 1 <= j <= h. After a termination, rewards are 0 and actions were not executed."""

    obs: torch.Tensor  # (B, O) s_t
    actions: torch.Tensor  # (B, h, A) a_t..a_{t+h-1}; actions after the first j are not part of the window
    prefix_length: torch.Tensor  # (B,) j
    reward: torch.Tensor  # (B,) sum_{i<j} gamma^i r_{t+i}
    discount: torch.Tensor  # (B,) gamma^j (1 - terminated)
    next_obs: torch.Tensor  # (B, O) s_{t+j}
    reached: OpenLoopStates | None  # None for h = 1


class ReplayBuffer:
    """A ring buffer of rows [obs | action | planned | reward | left], float32, (capacity, O + A + 3).

    There are two kinds of rows. A step has left >= 1: the steps left in the executed plan, this one included. planned
    is 1 if the policy made that plan, and 0 for a held random action of the seed steps, from which confidences must not
    learn; committed windows use `left` alone.

    An end mark has left = 0, or -1 if the environment terminated, and obs = the observation after the last step. The
    newest step is always followed by an end mark, which the next step of the episode overwrites. So the next
    observation is always in the next row, and no window can cross a time limit or the ring's write position. After a
    termination there is one end mark per action of the plan that was not executed any more, and it holds that action;
    if there is none, one without.

    Args:
        obs_size, action_size: O, A.
        capacity: number of rows; an episode takes one per step and one for its end mark, or more after a termination.
        chunk_size: h, the longest window.
        discount: gamma.
        committed_windows: whether windows also end where the executed plan ends.
        device: torch device of the batches.
        rng: numpy Generator that sampling draws from.

    Raises:
        ValueError: capacity is below h + MARGIN, or does not fit into this machine's memory.
    """

    def __init__(self, obs_size, action_size, capacity, chunk_size, discount, committed_windows, device, rng):
        if capacity < chunk_size + MARGIN:
            raise ValueError(f"a capacity of {capacity} is below chunk_size + {MARGIN} = {chunk_size + MARGIN}")
        size, limit = self.num_bytes(obs_size, action_size, capacity), memory_limit()
        if limit is not None and size > limit:
            raise ValueError(f"{capacity:,} rows take {size / 1e9:,.1f} GB of memory; there are {limit / 1e9:,.1f} GB")
        self.obs_size, self.action_size, self.capacity = obs_size, action_size, capacity
        self.chunk_size, self.committed_windows = chunk_size, committed_windows
        self.device, self.rng = torch.device(device), rng
        self.rows = np.zeros((capacity, obs_size + action_size + 3), np.float32)
        self.num_rows = 0  # final rows so far; the next step is row number num_rows, at num_rows % capacity
        self.size = 0  # rows in use, the newest end mark included
        self._following = np.arange(chunk_size + 1)  # offsets of the rows of a window
        self._preceding = -np.arange(chunk_size + 2)  # of an open-loop state's row and the h + 1 before it
        self._discounts = (discount**self._following).astype(np.float32)
        # Row j: gamma^i for i < j, then 0.
        self._reward_weights = np.tril(np.tile(self._discounts[:-1], (chunk_size + 1, 1)), -1)

    @staticmethod
    def num_bytes(obs_size, action_size, capacity):
        """Memory of the rows in bytes."""
        return 4 * (obs_size + action_size + 3) * capacity

    def add(self, obs, action, reward, next_obs, terminated, truncated, rest=(), planned=True):
        """Append a step.

        Args:
            obs, next_obs: (O,).
            action: (A,).
            reward: float.
            terminated: whether the next state has no future; its value is zero.
            truncated: whether the episode was cut after this step, as by a time limit.
            rest: (n, A), n < h: actions of the executed plan that come after this one.
            planned: whether the policy made that plan.

        Raises:
            ValueError: obs, next_obs, action or one of rest has another shape (numpy would broadcast some silently).
        """
        for name, value, size in (
            ("obs", obs, self.obs_size),
            ("next_obs", next_obs, self.obs_size),
            ("action", action, self.action_size),
            *(("an action of the rest", action, self.action_size) for action in rest[:1]),
        ):
            if np.shape(value) != (size,):
                raise ValueError(f"{name} has shape {np.shape(value)} instead of {(size,)}")
        row = self.rows[self.num_rows % self.capacity]
        row[: self.obs_size] = obs
        row[self.obs_size : PLANNED] = action
        row[PLANNED] = planned
        row[REWARD] = reward
        row[LEFT] = 1 + len(rest)
        self.num_rows += 1
        num_marks = max(1, len(rest)) if terminated else 1
        marks = (self.num_rows + np.arange(num_marks)) % self.capacity
        self.rows[marks, : self.obs_size] = next_obs
        self.rows[marks, LEFT] = -1 if terminated else 0
        if terminated and len(rest):
            self.rows[marks, self.obs_size : PLANNED] = rest
        self.size = min(self.num_rows + num_marks, self.capacity)
        if terminated or truncated:
            self.num_rows += num_marks

    def sample(self, batch_size):
        """Draw a `Batch` of B windows, for h > 1 with B / WINDOWS_PER_OPEN_LOOP_STATE open-loop states.

        The start of a window is drawn uniformly from all steps; j is uniform over 1..h, or up to the end of the
        episode's data if the environment did not terminate it, and with committed windows at most up to the end of the
        executed plan. Actions after a termination are those of the plan that was executed at the start of the window,
        and drawn uniformly after its end. Open-loop states are drawn uniformly from the newest RECENT_ROWS rows.

        Raises:
            ValueError: the buffer is empty.
        """
        h, obs_size, action_size = self.chunk_size, self.obs_size, self.action_size
        rows = self._draw_windows(batch_size)  # (B, h + 1, O + A + 3)
        # One array, and so one transfer, for all windows: (B, O + hA + O + 3)
        window = self._pack(rows, *self._draw_lengths(rows[:, :, LEFT]))
        width = window.shape[1]
        # as_strided, here and below: the cheapest of torch's views, and one operation for all of them. With split and
        # unbind sampling takes 1.1 to 1.5 times as long.
        view = self._to_device(window).as_strided
        return Batch(
            obs=view((batch_size, obs_size), (width, 1), 0),
            actions=view((batch_size, h, action_size), (width, action_size, 1), obs_size),
            prefix_length=view((batch_size,), (width,), width - 1).long(),
            reward=view((batch_size,), (width,), width - 3),
            discount=view((batch_size,), (width,), width - 2),
            next_obs=view((batch_size, obs_size), (width, 1), width - 3 - obs_size),
            reached=self._sample_reached(max(1, batch_size // WINDOWS_PER_OPEN_LOOP_STATE)) if h > 1 else None,
        )

    def _draw_lengths(self, left):
        """Prefix lengths of windows with these steps left, (B, h + 1).

        Returns:
            (length, is_terminated, prefix_length), each (B,): steps up to the first end mark, or h if there is none;
            whether the environment terminated there; j.
        """
        length = (left < 1).argmax(1)  # 0 if there is no end mark
        length[length == 0] = self.chunk_size
        # A window goes on past a termination. If it ended there, the lengths drawn would depend on what happened, and
        # the value of a long prefix would be that of the times that it was survived.
        is_terminated = left[np.arange(len(left)), length] < 0
        available = np.where(is_terminated, self.chunk_size, length)
        if self.committed_windows:
            available = np.minimum(available, left[:, 0])
        return length, is_terminated, 1 + (self.rng.random(len(left)) * available).astype(np.int64)

    def _pack(self, rows, length, is_terminated, prefix_length):
        """Windows of rows (B, h + 1, O + A + 3) as [obs | actions | next_obs | reward | discount | j], float32.

        The other arguments are those that `_draw_lengths` returns.
        """
        batch_size, obs_size = len(rows), self.obs_size
        num_steps = np.minimum(prefix_length, length)
        following = rows[np.arange(batch_size), num_steps]  # (B, O + A + 3)
        window = np.empty((batch_size, 2 * obs_size + self.chunk_size * self.action_size + 3), np.float32)
        window[:, :obs_size] = rows[:, 0, :obs_size]
        actions = window[:, obs_size : -obs_size - 3].reshape(batch_size, self.chunk_size, self.action_size)
        actions[:] = rows[:, :-1, obs_size:PLANNED]
        if is_terminated.any():
            # It goes on with the plan: other actions would tell that the step terminated.
            known = np.maximum(length, rows[:, 0, LEFT])  # (B,), executed or in the plan
            is_after = is_terminated[:, None] & (self._following[:-1] >= known[:, None])  # (B, h)
            actions[is_after] = self.rng.uniform(-1, 1, (is_after.sum(), self.action_size))
        window[:, -obs_size - 3 : -3] = following[:, :obs_size]
        window[:, -3] = (rows[:, :-1, REWARD] * self._reward_weights.take(num_steps, axis=0)).sum(1)
        window[:, -2] = self._discounts.take(prefix_length) * (following[:, LEFT] >= 0)
        window[:, -1] = prefix_length
        return window

    def _draw_windows(self, count):
        """Rows of steps drawn uniformly, each with the h rows after it, (count, h + 1, O + A + 3).

        Draws of end marks are repeated.
        """
        starts = self.rng.integers(self.size, size=count)
        rows = self._gather(starts, self._following)
        while (wrong := rows[:, 0, LEFT] < 1).any():
            starts = self.rng.integers(self.size, size=count)
            rows[wrong] = self._gather(starts[wrong], self._following)
        return rows

    def _sample_reached(self, count):
        h, obs_size = self.chunk_size, self.obs_size
        newest = max(1, min(RECENT_ROWS, self.size - h - 2))
        states = self.num_rows % self.capacity - self.rng.integers(1, newest + 1, count)
        rows = self._gather(states, self._preceding)  # (R, h + 2, O + A + 3), the state's row first
        left = rows[:, :, LEFT]
        # j steps before, the newest earlier plan was made. An end mark precedes the first step of an episode.
        prefix_length = 1 + (left[:, 2:] <= 1).argmax(1)  # (R,)
        # Both rows are steps, so that the state is inside an episode; the policy made the plan.
        is_inside = (left[:, :2] >= 1).all(1) & (rows[:, 1, PLANNED] == 1)
        prefix_length *= is_inside & (prefix_length < h)

        width = 2 * obs_size + 1
        reached = np.empty((count, width), np.float32)
        reached[:, :obs_size] = rows[np.arange(count), prefix_length, :obs_size]
        reached[:, obs_size:-1] = rows[:, 0, :obs_size]
        reached[:, -1] = prefix_length
        view = self._to_device(reached).as_strided
        return OpenLoopStates(
            planned_at=view((count, obs_size), (width, 1), 0),
            prefix_length=view((count,), (width,), width - 1).long(),
            obs=view((count, obs_size), (width, 1), obs_size),
        )

    def _gather(self, index, offsets):
        """Rows at index (R,) + offset (n,), modulo the capacity: (R, n, O + A + 3)."""
        return self.rows.take(index[:, None] + offsets, axis=0, mode="wrap")

    def _to_device(self, array):
        """An array as a tensor on the device. CUDA copies beside other work only from pinned memory."""
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def live_rows(self, since=0):
        """Numbers of the final rows from `since` on that the ring still holds; valid between two episodes only."""
        return range(max(since, self.num_rows - self.size), self.num_rows)

    def read(self, numbers):
        """The rows of a range of numbers, (len(numbers), O + A + 3)."""
        return self.rows.take(np.asarray(numbers) % self.capacity, axis=0)

    def restore(self, numbers, rows):
        """Write rows that `read` returned back under their numbers, oldest first."""
        self.rows[np.asarray(numbers) % self.capacity] = rows
        self.num_rows = numbers.stop
        self.size = min(self.size + len(rows), self.capacity)
