import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.stats import norm

from agent.chunking import by_confidence
from analysis import bias
from errors import RunError, UsageError

DISCOUNT, HORIZON, LIMIT = 0.9, 12, 40
CRITICS, TARGETS = (3.0, 5.0), (2.0, 7.0)  # constant values


class Constant(gym.Env):
    """Reward 2 per step; the observation counts steps. Records all steps of all its copies."""

    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    terminates = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation(), {}

    def observation(self):
        return np.array([self.time, np.sin(self.time), 1], np.float32)

    def reward(self, action):
        return 2.0

    def step(self, action):
        reward = self.reward(np.asarray(action, float))
        self.time += 1
        done = self.time >= LIMIT
        return self.observation(), reward, done and self.terminates, done and not self.terminates, {}


class Terminating(Constant):
    terminates = True


def constant(critic, values):
    for network, value in zip(critic.critics, values, strict=True):
        torch.nn.init.zeros_(network.layers[-1].weight)
        torch.nn.init.constant_(network.layers[-1].bias, value)


@pytest.fixture
def agent(make_agent):
    """An agent with constant critics and the given temperature."""

    def make(*flags, alpha=1e-30, h=3):
        agent = make_agent(3, 2, "--discount", str(DISCOUNT), "--chunk_size", str(h), *flags)
        constant(agent.critic, CRITICS)
        constant(agent.critic_target, TARGETS)
        agent.log_alpha.data.fill_(np.log(alpha))
        return agent

    return make


def compare(agent, env, num_states=12, horizon=HORIZON, threshold=0.0):
    return list(bias.states(agent, env, [1, 2], by_confidence(threshold), horizon, num_states))


def rewards(n):
    return 2 * (1 - DISCOUNT**n) / (1 - DISCOUNT)


@pytest.mark.parametrize("h, threshold", [(1, 0.0), (3, 0.0), (3, 1.0)])
def test_a_constant_reward_equals_the_closed_form(agent, h, threshold):
    """Without entropy: n rewards, then the smallest target critic's value."""
    rows = compare(agent(h=h), Constant(), threshold=threshold)
    assert [row["episode"] for row in rows] == [1] * 6 + [2] * 6
    for row in rows:
        assert 0 <= row["time"] <= LIMIT - HORIZON and row["k"] == (h if threshold == 0 else 1)
        assert row["tail_weight"] == pytest.approx(DISCOUNT**HORIZON)
        for name in [f"q_{j}" for j in range(1, h + 1)] + ["v"]:
            assert row[f"{name}_realised"] == pytest.approx(rewards(HORIZON) + DISCOUNT**HORIZON * 2)
            assert (row[name], row[f"{name}_min"]) == pytest.approx((4.5, 2.0) if name == "v" else (4.0, 3.0))


def test_branches_end_with_the_episode(agent):
    """After a termination there is nothing; a branch can be longer than half an episode only there."""
    for row in compare(agent(), Terminating(), num_states=40, horizon=100):
        n = LIMIT - row["time"]
        assert n >= 3 and row["tail_weight"] == 0
        assert row["q_2_realised"] == pytest.approx(rewards(n))
    rows = compare(agent(), Constant(), num_states=40, horizon=100)
    assert max(row["time"] for row in rows) <= LIMIT // 2
    for row in rows:
        n = LIMIT - row["time"]
        assert row["v_realised"] == pytest.approx(rewards(n) + DISCOUNT**n * 2)


def test_branches_draw_numbers_of_their_own(agent):
    """Equal for all j. Those of the episode would be of a future in which it reached the later states."""

    class Noisy(Constant):
        draws = []

        def reward(self, action):
            self.draws.append(self.np_random.normal())
            return self.draws[-1]

    for row in bias.states(agent(), Noisy(), [1], by_confidence(0), HORIZON, 3):
        one, *others = np.split(np.array(Noisy.draws[-3 * HORIZON :]), 3)
        of_episode = np.array(Noisy.draws[row["time"] : row["time"] + HORIZON])
        assert (one != of_episode).all() and all((one == other).all() for other in others)


def log_density(action, mean=0.3, std=0.5):
    """Of tanh(mean + std e), by scipy."""
    return norm.logpdf(np.arctanh(action), mean, std) - np.log(1 - action**2)


class PaysEntropy(Terminating):
    """Reward alpha log pi(a)."""

    alpha = 0.7

    def reward(self, action):
        return float(self.alpha * log_density(action).sum())


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_rewards_that_pay_the_entropy_cancel_after_the_prefix(agent, threshold):
    """Only the prefix's rewards are left of Q, and nothing of V, if alpha log pi is discounted as the rewards are."""
    agent = agent(alpha=PaysEntropy.alpha)
    output = agent.actor.mlp.layers[-1]
    low, high = agent.actor.log_std_bounds
    log_std = np.arctanh(2 * (np.log(0.5) - low) / (high - low) - 1)
    torch.nn.init.zeros_(output.weight)
    output.bias.data.copy_(torch.tensor([0.3] * 6 + [log_std] * 6))
    for row in compare(agent, PaysEntropy(), threshold=threshold, horizon=LIMIT):
        q = [row[f"q_{j}_realised"] for j in (1, 2, 3)]
        assert row["v_realised"] == pytest.approx(0, abs=1e-4)
        assert np.ptp(q) > 0.05 and row["v"] == pytest.approx(4.5 - q[row["k"] - 1], abs=1e-4)


def test_soft_returns_of_a_normalised_policy_by_hand(agent):
    """Plans of k = 2 of h = 3 actions: the noise is recovered from the actions, its density is scipy's."""
    agent, alpha = agent("--normalize_observations", alpha=0.5), 0.5
    seen = np.array([[time, np.sin(time), 1] for time in range(30)], np.float32)
    for obs in seen:
        agent.observe(obs)
    confidence = agent.actor.confidence.layers[-1]
    torch.nn.init.zeros_(confidence.weight)
    confidence.bias.data.copy_(torch.tensor([5.0, -5.0]))

    class Recorder(Terminating):
        steps = []

        def step(self, action):
            self.steps.append((self.observation(), np.asarray(action, float)))
            return super().step(action)

    def log_probs(obs, actions):
        obs = np.clip((obs - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-8), -10, 10)
        mean, log_std, _ = agent.actor(torch.tensor(obs, dtype=torch.float32)[None])
        mean, std = (x.detach().numpy()[0, : len(actions)].astype(float) for x in (mean, log_std.exp()))
        z = (np.arctanh(actions) - mean) / std
        return (norm.logpdf(z) - np.log(std) - np.log(1 - actions**2)).sum(1)

    for row in bias.states(agent, Recorder(), [1], by_confidence(0.5), LIMIT, 6):
        n = LIMIT - row["time"]
        assert row["k"] == 2
        steps = Recorder.steps[-3 * n :]  # the branches of this state
        for j in (1, 2, 3):
            observations, actions = zip(*steps[(j - 1) * n : j * n], strict=True)
            assert observations[0][0] == row["time"]
            prefix = log_probs(observations[0], np.array(actions[:j]))
            later = [log_probs(observations[i], np.array(actions[i : i + 2])) for i in range(j, n, 2)]
            costs = alpha * DISCOUNT ** np.arange(n) * np.concatenate([prefix, *later])
            assert row[f"q_{j}_realised"] == pytest.approx(rewards(n) - costs[j:].sum(), abs=1e-3)
            if j == 2:
                assert row["v_realised"] == pytest.approx(rewards(n) - costs.sum(), abs=1e-3)
                assert row["v"] == pytest.approx(4.5 - costs[:2].sum(), abs=1e-3)


def test_predictions_are_those_of_the_critics_for_the_executed_plan(make_agent):
    """Q_c of the normalised observation and the first j actions; the first branch executes that plan."""
    agent = make_agent(3, 2, "--chunk_size", "3", "--normalize_observations")
    agent.log_alpha.data.fill_(-60)
    for time in range(30):
        agent.observe(np.array([time, np.sin(time), 1], np.float32))

    class Recorder(Constant):
        steps = []

        def step(self, action):
            self.steps.append((self.observation(), np.asarray(action)))
            return super().step(action)

    for row in bias.states(agent, Recorder(), [1], lambda plan: 2, HORIZON, 3):
        observations, actions = zip(*Recorder.steps[-HORIZON : 3 - HORIZON], strict=True)  # the branch of j = 3
        obs = agent.actor.normalizer(torch.tensor(observations[0]))[None]
        for j in (1, 2, 3):
            q = agent.critic(obs, torch.tensor(np.array(actions))[None], torch.tensor([j])).detach()[:, 0]
            assert row[f"q_{j}"] == pytest.approx(float(q.mean()), abs=1e-5)
            assert row[f"q_{j}_min"] == pytest.approx(float(q.min()), abs=1e-5)
        # An untrained agent's target critics are its critics.
        assert row["v"] == pytest.approx(row["q_2"], abs=1e-5) != row["q_3"]


PARTS = {"": 5.0, "_min": 4.0, "_realised": 3.0}, {"": 9.0, "_min": 6.0, "_realised": 1.0}


def test_a_report_by_hand():
    rows = [
        {"episode": episode, "k": 1, "tail_weight": 0.1}
        | {f"{name}{part}": value for name in ("q_1", "v") for part, value in parts.items()}
        for episode, parts in enumerate(PARTS)
    ]
    result = bias.report(rows, 1)
    assert (result["num_states"], result["tail_weight"], result["k"]) == (2, pytest.approx(0.1), 1)
    assert [value.pop("name") for value in result["values"]] == ["q_1", "v"]
    # Biases 2 and 8, of the minimum 1 and 5: half their distance is the standard error of their mean.
    expected = {"predicted": 7, "predicted_min": 5, "realised": 2, "bias": 5, "bias_min": 3, "relative": 2.5}
    assert result["values"] == [pytest.approx(expected | {"bias_error": 3, "bias_min_error": 2})] * 2
    again = bias.report(rows + rows, 1)["values"][0]  # the same states twice are no more episodes
    assert (again["bias"], again["bias_error"]) == pytest.approx((5, 3))
    one = bias.report(rows[:1], 1)
    assert one["values"][0]["bias_error"] is None
    assert "None" not in bias.table(one | {"horizon": 5, "alpha": 0.1})


def test_what_cannot_be_compared_is_refused(agent):
    class Short(Constant):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, self.time == 2, False, {}

    with pytest.raises(UsageError, match="shorter than a chunk of 3 steps"):
        compare(agent(), Short())
    agent = agent()
    constant(agent.critic, (float("inf"), 1.0))
    with pytest.raises(RunError, match="a value is not finite"):
        compare(agent, Constant())
