"""The learned Q(s, a_{1:j}) against a closed form.

The state is a sign that flips every step, the reward 1 - (a - s/2)^2. The best plan is therefore (s/2, -s/2, s/2, ...),
and with an almost vanishing temperature V(s) = 1 / (1 - gamma), so that

    Q(s, a_{1:j}) = sum_{i<=j} gamma^{i-1} (1 - (a_i - s (-1)^{i-1} / 2)^2) + gamma^j / (1 - gamma).
"""

import numpy as np
import torch

from replay_buffer import ReplayBuffer

GAMMA, H = 0.7, 3


def fill(buffer, num_steps, rng):
    for t in range(num_steps):
        s, a = 1.0 - 2 * (t % 2), rng.uniform(-1, 1)
        # 50-step episodes with a time limit: bootstrapped, or the values would be lower.
        buffer.add([s], [a], 1 - (a - s / 2) ** 2, [-s], False, t % 50 == 49)


def test_prefix_values_match_the_closed_form(make_agent):
    flags = ["--chunk_size", H, "--discount", GAMMA, "--init_temperature", 1e-3, "--no-learnable_temperature"]
    rates = ["--actor_lr", 1e-3, "--critic_lr", 1e-3, "--critic_tau", 0.02]
    agent = make_agent(1, 1, *map(str, flags + rates), hidden_dim=64)
    buffer = ReplayBuffer(1, 1, 10_000, H, GAMMA, False, "cpu", np.random.default_rng(0))
    fill(buffer, 4000, np.random.default_rng(0))
    for _ in range(1500):
        agent.update(buffer.sample(128))

    generator = torch.Generator().manual_seed(1)
    s = torch.ones(200, 1)
    s[:100] = -1
    actions = 2 * torch.rand(200, H, 1, generator=generator) - 1
    best = s / 2 * torch.tensor([1.0, -1.0, 1.0])  # (B, h)
    gained = (1 - (actions.squeeze(-1) - best) ** 2) * GAMMA ** torch.arange(H)
    for j in range(1, H + 1):
        exact = gained[:, :j].sum(1) + GAMMA**j / (1 - GAMMA)
        with torch.no_grad():
            q = agent.critic(s, actions, torch.full((200,), j)).mean(0)
        assert exact.std() > 0.3
        assert (q - exact).abs().mean() < 0.06
    for sign in (-1.0, 1.0):
        np.testing.assert_allclose(
            agent.plan([sign], sample=False).actions[:, 0], sign / 2 * np.array([1, -1, 1]), atol=0.1
        )
