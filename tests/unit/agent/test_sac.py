"""The update against re-computations written from the formulas, sample by sample, and against closed forms."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from replay_buffer import Batch, OpenLoopStates

O, A, B = 4, 2, 16
ACTOR_LR, CRITIC_LR, ALPHA_LR, CONFIDENCE_LR, TAU = 2e-4, 3e-4, 4e-4, 5e-4, 0.005
# None is a default and no two are equal, so a rate that is not read, or another's, is noticed.
RATES = f"--actor_lr {ACTOR_LR} --critic_lr {CRITIC_LR} --alpha_lr {ALPHA_LR} --confidence_lr {CONFIDENCE_LR}".split()
PLAIN = [*RATES, "--critic_tau", str(TAU), "--no-normalize_observations"]


def make_batch(h, discount=0.99, seed=0):
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=g)

    prefix_length = torch.randint(1, h + 1, (B,), generator=g)
    alive = torch.rand(B, generator=g) > 0.3
    steps = torch.arange(6) % h  # 0 is a row that does not count
    return Batch(
        obs=randn(B, O),
        actions=torch.tanh(randn(B, h, A)),
        prefix_length=prefix_length,
        reward=randn(B),
        discount=discount**prefix_length * alive,
        next_obs=randn(B, O),
        reached=OpenLoopStates(randn(6, O), steps, randn(6, O)) if h > 1 else None,
    )


def clone_parameters(module):
    return {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}


def draws(agent):
    """A stream of the numbers that the agent's next update will draw."""
    generator = torch.Generator()
    generator.set_state(agent.update_generator.get_state())
    return generator


def assert_same(parameters, module):
    """Equal up to part of one step: where a gradient is at rounding level, Adam still moves by up to its rate."""
    for name, p in module.named_parameters():
        expected = parameters[name].detach()
        torch.testing.assert_close(p.detach(), expected, rtol=1e-4, atol=5e-5, msg=lambda m, n=name: f"{n}: {m}")
        assert (p.detach() - expected).abs().mean() < 1e-6


def plain_q(critic, c, obs, actions, layer_norm):
    """Critic c of the stack as an ordinary network on (s, a)."""
    x = torch.cat([obs, actions], 1)
    for layer in (0, 1):
        name = f"critics.{c}.layers.{layer}"
        x = x @ critic[f"{name}.weight"].t() + critic[f"{name}.bias"]
        if layer_norm:
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = x.clamp(min=0)
    return (x @ critic[f"critics.{c}.layers.2.weight"].t() + critic[f"critics.{c}.layers.2.bias"]).squeeze(1)


def plain_policy(actor, obs):
    x = F.relu(F.linear(obs, actor["mlp.layers.0.weight"], actor["mlp.layers.0.bias"]))
    x = F.relu(F.linear(x, actor["mlp.layers.1.weight"], actor["mlp.layers.1.bias"]))
    mean, log_std = F.linear(x, actor["mlp.layers.2.weight"], actor["mlp.layers.2.bias"]).chunk(2, 1)
    log_std = -5 + 3.5 * (torch.tanh(log_std) + 1)
    return TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)]), mean, log_std


@pytest.mark.parametrize("layer_norm", [True, False])
def test_chunk_size_1_is_plain_sac(make_agent, layer_norm):
    """100 updates of a one-step SAC written without any chunk: the same parameters, number for number."""
    layer_norm_flag = "--critic_layer_norm" if layer_norm else "--no-critic_layer_norm"
    agent = make_agent(O, A, "--chunk_size", "1", layer_norm_flag, *PLAIN)
    actor, critic = clone_parameters(agent.actor), clone_parameters(agent.critic)
    target = {name: p.detach().clone() for name, p in critic.items()}
    log_alpha = torch.tensor(math.log(0.1), requires_grad=True)
    optimizers = [
        torch.optim.Adam(p, lr)
        for p, lr in ((actor.values(), ACTOR_LR), (critic.values(), CRITIC_LR), ([log_alpha], ALPHA_LR))
    ]
    generator = draws(agent)

    def sample(obs):
        policy, mean, log_std = plain_policy(actor, obs)
        action = torch.tanh(mean + log_std.exp() * torch.randn(B, 1, A, generator=generator)[:, 0])
        # Not from u: TanhTransform inverts the action, as any SAC on torch.distributions.
        return action, policy.log_prob(action.clamp(-1 + 1e-6, 1 - 1e-6)).sum(1)

    def step(optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for update in range(100):
        batch = make_batch(1, seed=update)
        metrics = agent.update(batch)
        with torch.no_grad():
            action, log_prob = sample(batch.next_obs)
            q = torch.minimum(*(plain_q(target, c, batch.next_obs, action, layer_norm) for c in (0, 1)))
            y = batch.reward + batch.discount * (q - log_alpha.exp() * log_prob)
        critic_loss = sum(F.mse_loss(plain_q(critic, c, batch.obs, batch.actions[:, 0], layer_norm), y) for c in (0, 1))
        step(optimizers[1], critic_loss)
        action, log_prob = sample(batch.obs)
        q = torch.minimum(*(plain_q(critic, c, batch.obs, action, layer_norm) for c in (0, 1)))
        actor_loss = (log_alpha.exp().detach() * log_prob - q).mean()
        step(optimizers[0], actor_loss)
        step(optimizers[2], -(log_alpha.exp() * (log_prob.detach() + -A)).mean())
        with torch.no_grad():
            for name, p in target.items():
                p.mul_(1 - TAU).add_(TAU * critic[name])
        assert metrics["critic_loss"].item() == pytest.approx(critic_loss.item(), rel=1e-3)
        assert metrics["actor_loss"].item() == pytest.approx(actor_loss.item(), rel=1e-3, abs=1e-4)
    assert_same(actor, agent.actor)
    assert_same(critic, agent.critic)
    assert_same(target, agent.critic_target)
    assert agent.log_alpha.item() == pytest.approx(log_alpha.item(), rel=1e-5)


def plain_actor(agent, actor, obs):
    """mean (h, A), log_std (h, A), confidence logits (h - 1,) of one state, as an ordinary network."""
    h = agent.chunk_size
    x = F.relu(F.linear(obs, actor["mlp.layers.0.weight"], actor["mlp.layers.0.bias"]))
    x = F.relu(F.linear(x, actor["mlp.layers.1.weight"], actor["mlp.layers.1.bias"]))
    mean, log_std = F.linear(x, actor["mlp.layers.2.weight"], actor["mlp.layers.2.bias"]).view(2, h, A)
    log_std = -5 + 3.5 * (torch.tanh(log_std) + 1)
    x = F.relu(F.linear(x.detach(), actor["confidence.layers.0.weight"], actor["confidence.layers.0.bias"]))
    return mean, log_std, F.linear(x, actor["confidence.layers.1.weight"], actor["confidence.layers.1.bias"])


def looped_sample(agent, actor, obs, z):
    """Plan of one state: actions (h, A), log-likelihood of each step (h,), logits, by the formulas in turn."""
    mean, log_std, logits = plain_actor(agent, actor, obs)
    actions, log_prob = [], []
    for i in range(agent.chunk_size):
        a = torch.tanh(mean[i] + log_std[i].exp() * z[i])
        density = Normal(0.0, 1.0).log_prob(z[i]) - log_std[i] - torch.log(1 - a**2)
        actions.append(a)
        log_prob.append(density.sum())
    return torch.stack(actions), log_prob, logits


def looped_q(critic, c, obs, actions, j):
    """Q_c(s, a_{1:j}) of one state."""
    h = len(actions)
    kept = torch.cat([actions[:j], torch.zeros(h - j, A)]).flatten()
    return plain_q(critic, c, torch.cat([obs, kept])[None], F.one_hot(torch.tensor([j - 1]), h), True)[0]


H, GAMMA, ALPHA, MARGIN = 3, 0.9, 0.1, 1.0


@pytest.fixture(params=[0.0, 0.9, 1.0])
def update(request, make_agent):
    """One update at h = 3: the agent after it, its parameters before, and all that went into it."""
    flags = f"--chunk_size {H} --discount {GAMMA} --init_temperature {ALPHA} --confidence_margin {MARGIN}"
    agent = make_agent(O, A, *flags.split(), "--confidence_threshold", str(request.param), *PLAIN)
    with torch.no_grad():  # otherwise all confidences are equal
        agent.actor.confidence.layers[1].weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(3))
    generator, batch = draws(agent), make_batch(H, GAMMA)
    before = SimpleNamespace(threshold=request.param, agent=agent, batch=batch)
    before.actor, before.critic = clone_parameters(agent.actor), clone_parameters(agent.critic)
    before.critic_noise = torch.randn(B, H, A, generator=generator)
    before.prefix_length = torch.randint(1, H + 1, (B,), generator=generator)
    before.actor_noise = torch.randn(B, H, A, generator=generator)
    before.confidence_noise = torch.randn(6, A, generator=generator)
    before.metrics = agent.update(batch)
    before.critic_after = clone_parameters(agent.critic)  # what the actor's losses see
    assert torch.equal(agent.update_generator.get_state(), generator.get_state())
    return before


def looped_value(update, obs, z):
    """V(s) of one state by the target critics, which are the critics still, and the executed length."""
    actions, log_prob, logits = looped_sample(update.agent, update.actor, obs, z)
    c = torch.sigmoid(logits)
    k = 1
    while k < H and c[k - 1] >= update.threshold:
        k += 1
    q = min(looped_q(update.critic, i, obs, actions, k) for i in (0, 1))
    return q - ALPHA * sum(GAMMA**i * log_prob[i] for i in range(k)), k


def test_critic_update_equals_the_formulas(update):
    batch, critic, y, lengths = update.batch, update.critic, [], set()
    with torch.no_grad():
        for b in range(B):
            value, k = looped_value(update, batch.next_obs[b], update.critic_noise[b])
            y.append(batch.reward[b] + batch.discount[b] * value)
            lengths.add(k)
    assert lengths == {0.0: {3}, 1.0: {1}}.get(update.threshold, {1, 2, 3})
    loss = 0
    for b in range(B):
        for c in (0, 1):
            q = looped_q(critic, c, batch.obs[b], batch.actions[b], int(batch.prefix_length[b]))
            loss = loss + (q - y[b]) ** 2 / B
    assert update.metrics["critic_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    optimizer = torch.optim.Adam(critic.values(), CRITIC_LR)
    loss.backward()
    optimizer.step()
    assert_same(critic, update.agent.critic)


def looped_actor_loss(update):
    """The actor's loss and the entropy per executed step."""
    loss, entropy = 0, 0
    for b in range(B):
        actions, log_prob, _ = looped_sample(update.agent, update.actor, update.batch.obs[b], update.actor_noise[b])
        n = int(update.prefix_length[b])
        q = torch.minimum(*(looped_q(update.critic_after, c, update.batch.obs[b], actions, n) for c in (0, 1)))
        loss = loss + (ALPHA * sum(GAMMA**i * log_prob[i] for i in range(n)) - q) / B
        entropy = entropy - sum(log_prob[:n]).detach() / n / B
    return loss, entropy


def soft_q(update, row, obs, index):
    """Q_c(s', a) - alpha log pi(a | obs) of one row, a being step `index` + 1 of the chunk at obs, (C,)."""
    mean, log_std, _ = plain_actor(update.agent, update.actor, obs)
    policy = TransformedDistribution(Normal(mean[index], log_std[index].exp()), TanhTransform(cache_size=1))
    action = torch.tanh(mean[index] + log_std[index].exp() * update.confidence_noise[row])
    chunk = torch.cat([action[None], torch.ones(H - 1, A)])
    q = torch.stack([looped_q(update.critic_after, c, update.batch.reached.obs[row], chunk, 1) for c in (0, 1)])
    return q - ALPHA * policy.log_prob(action).sum()


def looped_advantages(update):
    """A_j of both critics, of the rows that count: the planned action and a fresh one, with the same noise."""
    reached, advantages = update.batch.reached, {}
    with torch.no_grad():
        for row in (1, 2, 4, 5):
            planned = soft_q(update, row, reached.planned_at[row], int(reached.prefix_length[row]))
            advantages[row] = planned - soft_q(update, row, reached.obs[row], 0)
    return advantages


def looped_delta(advantages):
    disagreement = math.sqrt(sum((q1 - q2) ** 2 / 2 for q1, q2 in advantages.values()) / 4)
    return MARGIN * max(disagreement, ALPHA * A / 2)


def looped_confidence_loss(update):
    """The loss; of each p = 1, 2 the advantages and labels of its rows."""
    reached, advantages = update.batch.reached, looped_advantages(update)
    delta = looped_delta(advantages)
    loss, seen = 0, {1: [], 2: []}
    for row, advantage in advantages.items():
        p = int(reached.prefix_length[row])
        label = (advantage >= -delta).float().mean()
        seen[p].append((advantage, label))
        probability = torch.sigmoid(plain_actor(update.agent, update.actor, reached.planned_at[row])[2][p - 1])
        loss = loss - (label * probability.log() + (1 - label) * (1 - probability).log()) / 4
    return loss, seen


def test_confidence_metrics_equal_the_formulas(update):
    metrics = update.metrics
    assert metrics["confidence_delta"].item() == pytest.approx(looped_delta(looped_advantages(update)), rel=1e-3)
    loss, seen = looped_confidence_loss(update)
    assert metrics["confidence_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    for p in (1, 2):
        advantages = torch.stack([advantage for advantage, _ in seen[p]])
        expected = advantages.mean(), advantages.std(unbiased=False), sum(label for _, label in seen[p]) / 2
        for name, value in zip(("advantage_mean", "advantage_std", "label"), expected, strict=True):
            assert metrics[name][p - 1].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-5)


def test_actor_update_equals_the_formulas(update):
    """Policy and confidence head, with the updated critic."""
    actor, (actor_loss, _) = update.actor, looped_actor_loss(update)
    confidence_loss, _ = looped_confidence_loss(update)
    assert update.metrics["actor_loss"].item() == pytest.approx(actor_loss.item(), rel=1e-4)
    head = [actor[name] for name in actor if name.startswith("confidence.")]
    others = [actor[name] for name in actor if not name.startswith("confidence.")]
    optimizer = torch.optim.Adam([{"params": others}, {"params": head, "lr": CONFIDENCE_LR}], ACTOR_LR)
    (actor_loss + confidence_loss).backward()
    optimizer.step()
    assert_same(actor, update.agent.actor)


def test_temperature_update_equals_the_formulas(update):
    _, entropy = looped_actor_loss(update)
    log_alpha = torch.tensor(math.log(ALPHA), requires_grad=True)
    optimizer = torch.optim.Adam([log_alpha], ALPHA_LR)
    loss = log_alpha.exp() * (entropy - -A)
    assert update.metrics["entropy"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert update.metrics["alpha_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    optimizer.step()
    assert update.agent.log_alpha.item() == pytest.approx(log_alpha.item(), rel=1e-6)


def test_confidence_loss_does_not_touch_the_policy(make_agent):
    """The confidence head is the only part of the actor that the labels reach."""
    flags = ["--chunk_size", "3", "--confidence_threshold", "0"]
    careless, careful = (make_agent(O, A, *flags, "--confidence_margin", m) for m in ("0", "2"))
    for seed in range(5):
        for agent in (careless, careful):
            agent.update(make_batch(3, seed=seed))
    states = [agent.actor.state_dict() for agent in (careless, careful)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]) != name.startswith("confidence."), name


def test_update_frequencies(make_agent):
    agent = make_agent(O, A, "--actor_update_frequency", "2", "--critic_target_update_frequency", "3")
    changes = []
    for seed in range(6):
        before = copy.deepcopy((agent.actor.state_dict(), agent.critic_target.state_dict()))
        agent.update(make_batch(5, seed=seed))
        after = (agent.actor.state_dict(), agent.critic_target.state_dict())
        changes.append([any(not torch.equal(a[n], b[n]) for n in a) for a, b in zip(before, after, strict=True)])
    assert [c[0] for c in changes] == [False, True] * 3
    assert [c[1] for c in changes] == [False, False, True] * 2


def test_fixed_temperature(make_agent):
    agent = make_agent(O, A, "--no-learnable_temperature", "--init_temperature", "0.3")
    metrics = agent.update(make_batch(5))
    assert metrics["alpha"].item() == pytest.approx(0.3) and "alpha_loss" not in metrics


def test_plan_of_the_mode_draws_nothing(make_agent):
    agent = make_agent(O, A)
    state = agent.plan_generator.get_state()
    first, second = agent.plan([0.5] * O, sample=False), agent.plan([0.5] * O, sample=False)
    assert (first.actions == second.actions).all() and first.actions.shape == (5, A)
    assert first.confidences.shape == (5,) and first.confidences[0] == 1
    assert torch.equal(state, agent.plan_generator.get_state())
    assert (agent.plan([0.5] * O, sample=True).actions != first.actions).all()
