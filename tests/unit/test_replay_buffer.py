"""The observation is the time index t, the reward 10 + t, the action 100 + t: expected values are arithmetic.

Plans are the same beyond an episode's end: the action for time t is 100 + t.
"""

import numpy as np
import pytest
import torch

from replay_buffer import RECENT_ROWS, ReplayBuffer

DISCOUNT = 0.9


def make_buffer(capacity=1000, h=4, committed=False, seed=0):
    return ReplayBuffer(1, 1, capacity, h, DISCOUNT, committed, "cpu", np.random.default_rng(seed))


def fill(buffer, num_steps, episode_length=None, terminated=False, first=0, steps_left=lambda t: 1, planned=True):
    """Steps first..first + num_steps - 1; the observation after step t is t + 0.5 at an episode's end, else t + 1."""
    for t in range(first, first + num_steps):
        end = episode_length is not None and (t + 1) % episode_length == 0
        next_obs, rest = t + 0.5 if end else t + 1, 100 + t + np.arange(1, steps_left(t))[:, None]
        buffer.add([t], [100 + t], 10 + t, [next_obs], end and terminated, end and not terminated, rest, planned)


def check_windows(batch, last_of, terminated=False, steps_left=lambda t: 1):
    """Every field of every window against arithmetic; last_of(t) is the last step of t's episode."""
    for i in range(len(batch.obs)):
        t, j = int(batch.obs[i, 0]), int(batch.prefix_length[i])
        last = last_of(t)
        steps = min(j, last + 1 - t)  # of the window before the end
        assert steps == j or terminated
        known = min(j, max(steps, steps_left(t)))
        assert batch.actions[i, :known, 0].tolist() == [100 + t + m for m in range(known)]
        assert (batch.actions[i, known:j].abs() <= 1).all()
        expected = sum(DISCOUNT**m * (10 + t + m) for m in range(steps))
        assert batch.reward[i].item() == pytest.approx(expected, rel=1e-6)
        at_end = t + steps - 1 == last
        assert batch.next_obs[i, 0].item() == (t + steps - 0.5 if at_end else t + steps)
        assert batch.discount[i].item() == pytest.approx(0.0 if at_end and terminated else DISCOUNT**j, rel=1e-6)


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("h", [1, 4])
def test_windows_stop_at_a_time_limit_and_go_on_past_a_termination(h, terminated):
    buffer, steps_left = make_buffer(h=h), lambda t: h - t % 6 % h
    fill(buffer, 60, episode_length=6, terminated=terminated, steps_left=steps_left)
    check_windows(buffer.sample(4000), lambda t: t // 6 * 6 + 5, terminated, steps_left)


@pytest.mark.parametrize("capacity", [1000, 50, 9])
def test_committed_windows_hold_the_plan_that_was_made_whether_or_not_a_step_terminates(capacity):
    """Else the actions of a window would tell what happened, and values of plans would be about some outcomes only.

    Plans of 1 to 5 = h equal actions, each another number; each step terminates with probability 0.3.
    """
    buffer, rng = make_buffer(capacity, 5, committed=True), np.random.default_rng(1)
    plan, rest, terminated_windows = 0, (), 0
    for t in range(600):
        if not len(rest):
            plan += 1
            rest = np.full((rng.integers(1, 6), 1), plan)
        action, rest = rest[0], rest[1:]
        terminated = bool(rng.random() < 0.3)
        buffer.add([t], action, 0, [t], terminated, False, rest)
        rest = () if terminated else rest
        batch = buffer.sample(8)
        for actions, j in zip(batch.actions[:, :, 0], batch.prefix_length, strict=True):
            assert (actions[:j] == actions[0]).all()
        terminated_windows += int((batch.discount == 0).sum())
    assert terminated_windows > 1000


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_lengths_do_not_depend_on_whether_a_step_terminates(probability, committed):
    """Each step gives reward 1 and then terminates with a fixed probability; episodes of plans of 4 = h steps.

    So a prefix of j actions has the expected reward sum_{i<j} (gamma (1 - p))^i and the expected discount
    (gamma (1 - p))^j. Other plans differ in the observation, not in what happens.
    """
    h, rng = 4, np.random.default_rng(1)
    buffer, left = make_buffer(40_000, h, committed), 0
    for _ in range(9000):
        left = left or h
        terminated = bool(rng.random() < probability)
        buffer.add([0.0], [5.0], 1.0, [0.0], terminated, False, np.full((left - 1, 1), 5.0))
        left = 0 if terminated else left - 1
    batch = buffer.sample(40_000)
    survival = DISCOUNT * (1 - probability)
    for j in range(1, h + 1):
        of_length = batch.prefix_length == j
        assert of_length.sum() > 1000
        expected = sum(survival**i for i in range(j))
        assert batch.reward[of_length].mean().item() == pytest.approx(expected, abs=0.06)
        assert batch.discount[of_length].mean().item() == pytest.approx(survival**j, abs=0.04)


def test_actions_after_a_termination_and_the_plan_are_uniform():
    buffer = make_buffer(h=4)
    fill(buffer, 60, episode_length=1, terminated=True)
    actions = buffer.sample(20_000).actions[:, :, 0]
    assert (actions[:, 0] >= 100).all()
    after = actions[:, 1:].numpy()
    counts, _ = np.histogram(after, 10, (-1, 1))
    np.testing.assert_allclose(counts / after.size, 0.1, atol=0.005)
    assert np.abs(np.corrcoef(after.T)[np.triu_indices(3, 1)]).max() < 0.03


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_windows_stop_at_the_newest_step(num_steps):
    buffer = make_buffer()
    fill(buffer, num_steps)
    batch = buffer.sample(500)
    for i in range(500):
        t, j = int(batch.obs[i, 0]), int(batch.prefix_length[i])
        assert t + j <= num_steps
        assert batch.next_obs[i, 0].item() == t + j
        assert batch.discount[i].item() == pytest.approx(DISCOUNT**j)


@pytest.mark.parametrize("num_steps", [*range(20, 45), 200])
def test_no_window_crosses_the_ring_seam(num_steps):
    """Capacity 20, episodes of 7 steps: the write position stops at every place of the ring."""
    buffer = make_buffer(capacity=20)
    fill(buffer, num_steps, episode_length=7)
    newest = num_steps - 1
    batch = buffer.sample(1000)
    for i in range(1000):
        t, j = int(batch.obs[i, 0]), int(batch.prefix_length[i])
        last = min(t // 7 * 7 + 6, newest)
        assert newest - 20 <= t and t + j - 1 <= last
        assert batch.actions[i, :j, 0].tolist() == [100 + t + m for m in range(j)]
        at_end = (t + j) % 7 == 0
        assert batch.next_obs[i, 0].item() == (t + j - 0.5 if at_end else t + j)
    # 20 rows hold all but the end marks: of the last 18 steps none is missing.
    assert set(range(newest - 15, newest + 1)) <= set(batch.obs[:, 0].int().tolist())


def test_starts_and_lengths_are_uniform():
    buffer = make_buffer(h=3)
    fill(buffer, 10, episode_length=5)
    batch = buffer.sample(60_000)
    t, j = batch.obs[:, 0].int().numpy(), batch.prefix_length.numpy()
    np.testing.assert_allclose(np.bincount(t) / 60_000, 0.1, atol=0.006)
    for start in range(10):
        available = min(3, 5 - start % 5)
        shares = np.bincount(j[t == start], minlength=4)[1:] / (t == start).sum()
        np.testing.assert_allclose(shares, [1 / available] * available + [0] * (3 - available), atol=0.03)


def test_committed_windows_stop_at_the_plans_end():
    buffer = make_buffer(committed=True)
    fill(buffer, 60, episode_length=30, steps_left=lambda t: 3 - t % 3)
    batch = buffer.sample(4000)
    check_windows(batch, lambda t: t // 30 * 30 + 29)
    t, j = batch.obs[:, 0].long(), batch.prefix_length
    assert (j <= 3 - t % 3).all()
    assert set(j.tolist()) == {1, 2, 3}


@pytest.mark.parametrize("capacity, num_steps", [(20_000, 9000), (1500, 4001), (40, 93), (40, 30)])
def test_reached_states_are_recent_and_inside_plans(capacity, num_steps):
    """Plans of 1 to 4 = h steps, also cut off by the end of episodes of 10."""
    buffer, rng = make_buffer(capacity=capacity), np.random.default_rng(5)
    made_at, left = [], 0  # of each step: when its plan was made
    for t in range(num_steps):
        if left == 0 or t % 10 == 0:
            left, start = int(rng.integers(1, 5)), t
        made_at.append(start)
        fill(buffer, 1, episode_length=10, first=t, steps_left=lambda _, left=left: left)
        left -= 1
    reached = buffer.sample(4 * 60_000).reached
    assert len(reached.prefix_length) == 60_000
    seen = set()
    for s, j, obs in zip(
        reached.planned_at[:, 0].tolist(), reached.prefix_length.tolist(), reached.obs[:, 0].tolist(), strict=True
    ):
        if j:
            assert s == made_at[int(obs) - 1] and obs == s + j and j < 4
            seen.add(int(obs))
    newest = range(num_steps - int(0.9 * min(RECENT_ROWS, capacity - 8, num_steps - 5)), num_steps)
    assert seen >= {t for t in newest if t % 10 and t - made_at[t - 1] < 4}
    assert min(seen) >= num_steps - 1.15 * RECENT_ROWS  # every tenth row is an end mark


def test_held_random_actions_are_no_plans():
    """40 steps of held actions, then plans of 4: committed windows take both, open-loop states the plans alone."""
    buffer = make_buffer(committed=True)
    fill(buffer, 40, steps_left=lambda t: 4 - t % 4, planned=False)
    batch = buffer.sample(4000)
    assert (batch.reached.prefix_length == 0).all()
    t, j = batch.obs[:, 0].long(), batch.prefix_length
    assert (j <= 4 - t % 4).all() and set(j.tolist()) == {1, 2, 3, 4}
    fill(buffer, 40, first=40, steps_left=lambda t: 4 - t % 4)
    restored = make_buffer(committed=True)
    numbers = buffer.live_rows()
    restored.restore(numbers, buffer.read(numbers))
    for ring in (buffer, restored):
        reached = ring.sample(4000).reached
        counts = reached.prefix_length > 0
        assert set(reached.planned_at[counts, 0].tolist()) == set(range(40, 80, 4))
        assert set(reached.obs[counts, 0].tolist()) == set(range(40, 80)) - set(range(40, 80, 4))


def test_where_no_plan_can_be_continued_nothing_counts():
    buffer = make_buffer()
    fill(buffer, 30, episode_length=1)
    assert (buffer.sample(64).reached.prefix_length == 0).all()


@pytest.mark.parametrize("h", [1, 4])
def test_a_ring_too_small_for_its_chunks_is_refused(h):
    make_buffer(capacity=h + 4, h=h)
    with pytest.raises(ValueError, match=f"{h + 3} .* {h + 4}"):
        make_buffer(capacity=h + 3, h=h)


@pytest.mark.parametrize("h", [2, 3, 5])
def test_the_smallest_ring_gives_right_open_loop_states(h):
    buffer = make_buffer(capacity=h + 4, h=h)
    for t in range(60):
        fill(buffer, 1, first=t, steps_left=lambda t: h - t % h)
        reached = buffer.sample(256).reached
        for s, j, obs in zip(reached.planned_at[:, 0], reached.prefix_length, reached.obs[:, 0], strict=True):
            assert j == 0 or (s % h == 0 and obs == s + j)


@pytest.mark.parametrize(
    "name, shape",
    [("obs", (1,)), ("next_obs", (1,)), ("action", (1,)), ("obs", (3, 1)), ("action", ()), ("rest", (1, 1))],
)
def test_another_shape_is_refused(name, shape):
    buffer = ReplayBuffer(3, 2, 100, 4, DISCOUNT, False, "cpu", np.random.default_rng())
    step = {"obs": np.zeros(3), "action": np.zeros(2), "reward": 0.0, "next_obs": np.zeros(3)}
    buffer.add(**step, terminated=False, truncated=False)
    with pytest.raises(ValueError) as caught:
        buffer.add(**step | {name: np.ones(shape)}, terminated=False, truncated=False)
    expected = (2,) if name == "action" else (3,)
    if name == "rest":
        name, shape, expected = "an action of the rest", (1,), (2,)
    assert str(caught.value) == f"{name} has shape {shape} instead of {expected}"
    assert buffer.num_rows == 1


def test_a_step_takes_one_row_of_four_bytes_per_number():
    buffer = ReplayBuffer(17, 6, 1000, 5, DISCOUNT, False, "cpu", np.random.default_rng())
    assert buffer.rows.nbytes == 1000 * 4 * (17 + 6 + 3)


def test_samples_follow_the_generator():
    batches = []
    for _ in range(2):
        buffer = make_buffer(seed=3)
        fill(buffer, 50)
        batches.append(buffer.sample(16))
    for first, second in zip(batches[0][:-1], batches[1][:-1], strict=True):
        assert torch.equal(first, second)


def plain_windows(buffer, rng, count):
    """What `sample` draws and computes, one window at a time: [obs, actions, j, reward, discount, next_obs] of each."""
    h, rows, ring = buffer.chunk_size, buffer.rows, lambda number: buffer.rows[number % buffer.capacity]
    starts = rng.integers(buffer.size, size=count)
    while any(rows[start, -1] < 1 for start in starts):
        again = rng.integers(buffer.size, size=count)
        starts = [new if rows[start, -1] < 1 else start for start, new in zip(starts, again, strict=True)]
    windows = []
    for start, u in zip(starts, rng.random(count), strict=True):
        length = next((i for i in range(h) if ring(start + i)[-1] < 1), h)
        terminated = ring(start + length)[-1] == -1
        available = h if terminated else length
        if buffer.committed_windows:
            available = min(available, ring(start)[-1])
        j = 1 + int(u * available)
        reward = np.float32(0)
        for i in range(min(j, length)):
            reward += ring(start + i)[-2] * np.float32(DISCOUNT**i)
        after = ring(start + min(j, length))
        discount = np.float32(DISCOUNT**j) if after[-1] >= 0 else 0
        actions = [ring(start + i)[1] for i in range(h)]
        if terminated:
            known = min(h, max(length, int(ring(start)[-1])))
            actions[known:] = rng.uniform(-1, 1, h - known).astype(np.float32)
        windows.append([rows[start, 0], actions, j, reward, discount, after[0]])
    return windows


def plain_reached(buffer, rng, count):
    """The same for open-loop states: [planned_at, j, obs] of each, with j = 0 where there is none."""
    h, ring = buffer.chunk_size, lambda number: buffer.rows[number % buffer.capacity]
    newest = min(RECENT_ROWS, buffer.size - h - 2)
    states = []
    for number in buffer.num_rows - rng.integers(1, newest + 1, count):
        j = next((j for j in range(1, h) if ring(number - 1 - j)[-1] <= 1), 0)
        if min(ring(number)[-1], ring(number - 1)[-1]) < 1 or ring(number - 1)[-3] == 0:
            j = 0
        states.append([ring(number - j)[0], j, ring(number)[0]])
    return states


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("capacity, num_steps", [(1000, 300), (60, 30), (60, 47), (60, 130)])
def test_batches_equal_a_plain_computation_bit_for_bit(capacity, num_steps, committed):
    """Episodes of 11 steps, every second one terminated; plans of 1 to 4 = h steps, some of held random actions."""
    buffer, rng = make_buffer(capacity=capacity, committed=committed, seed=8), np.random.default_rng(5)
    left, planned = 0, True
    for t in range(num_steps):
        if left == 0 or t % 11 == 0:
            left, planned = int(rng.integers(1, 5)), bool(rng.random() < 0.8)
        fill(buffer, 1, 11, t // 11 % 2 == 1, t, lambda _, left=left: left, planned)
        left -= 1
    plain = np.random.default_rng(8)
    for _ in range(5):
        batch = buffer.sample(128)
        fields = zip(*plain_windows(buffer, plain, 128), strict=True)
        for name, values in zip(batch._fields, fields, strict=False):
            assert torch.equal(getattr(batch, name).squeeze(-1), torch.tensor(np.array(values))), name
        fields = zip(*plain_reached(buffer, plain, 32), strict=True)
        for name, values in zip(batch.reached._fields, fields, strict=True):
            assert torch.equal(getattr(batch.reached, name).squeeze(-1), torch.tensor(np.array(values))), name
    assert plain.bit_generator.state == buffer.rng.bit_generator.state
