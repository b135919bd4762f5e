"""Soft Actor-Critic over action prefixes.

With h = 1 every formula below is that of SAC with twin critics and a learned temperature (Haarnoja et al. 2018b,
arXiv:1812.05905; section and equation numbers are of that paper). For h > 1 the critic values every prefix a_{1:j} of a
chunk, and the bootstrap executes as many steps of a fresh chunk as the policy would. With fixed lengths this is
Q-chunking (Li et al. 2025, arXiv:2507.07969). docs/algorithm.md has all formulas together.

Letters in shapes: B batch, O observation, A action, h chunk, C critics, R open-loop states.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from agent import confidence
from agent.actor import Actor, squash
from agent.chunking import Plan, executed_length
from agent.critic import Critic
from agent.normalizer import ObservationNormalizer
from utils import torch_generator


class SACAgent:
    """Actor, twin prefix critics and temperature, with one optimizer per loss.

    Args:
        obs_size, action_size: O, A.
        config: `Config`.
        device: torch device of weights and batches.
    """

    _NETWORKS = ("actor", "critic", "critic_target")
    _GENERATORS = ("plan_generator", "update_generator")

    def __init__(self, obs_size, action_size, config, device):
        self.config, self.device = config, torch.device(device)
        self.chunk_size, self.action_size = config.chunk_size, action_size
        self.target_entropy = -action_size if config.target_entropy is None else config.target_entropy
        self.num_updates = 0
        self.plan_generator = torch_generator(config.seed, "plan", self.device)
        self.update_generator = torch_generator(config.seed, "update", self.device)

        torch.manual_seed(config.seed)
        sizes = (obs_size, action_size, config.chunk_size, config.hidden_dim, config.hidden_depth)
        self.actor = Actor(*sizes, config.actor_log_std_bounds).to(self.device)
        # Part of the actor, so that policy.pt has the statistics, and set after to(), for some of them stay on the CPU.
        # It is applied where observations enter: actor and critics take normalised ones.
        is_normalized = config.normalize_observations
        self.actor.normalizer = ObservationNormalizer(obs_size, self.device) if is_normalized else nn.Identity()
        self.critic = Critic(*sizes, config.critic_layer_norm).to(self.device)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        log_alpha = torch.tensor(config.init_temperature, device=self.device).log()
        self.log_alpha = nn.Parameter(log_alpha, requires_grad=config.learnable_temperature)
        self.optimizers = self._make_optimizers()

        self.step_index = torch.arange(config.chunk_size, device=self.device)  # (h,)
        self.discounts = config.discount ** self.step_index.float()  # gamma^{i-1} for i = 1..h, (h,)

    def _make_optimizers(self):
        """{name of the loss: Adam}; only for losses that this configuration has."""
        config = self.config
        policy = self.actor.mlp.parameters()
        optimizers = {
            "critic": torch.optim.Adam(self.critic.parameters(), config.critic_lr, tuple(config.critic_betas)),
            "actor": torch.optim.Adam(policy, config.actor_lr, tuple(config.actor_betas)),
        }
        if config.learnable_temperature:
            optimizers["temperature"] = torch.optim.Adam([self.log_alpha], config.alpha_lr, tuple(config.alpha_betas))
        if config.chunk_size > 1:
            head = self.actor.confidence.parameters()
            optimizers["confidence"] = torch.optim.Adam(head, config.confidence_lr, tuple(config.actor_betas))
        return optimizers

    @property
    def alpha(self):
        """Temperature, units of return per nat, a scalar tensor without gradient."""
        return self.log_alpha.detach().exp()

    def observe(self, obs):
        """Count an observation (O,) that the training environment gave, for normalisation; call it once for each.

        Without `--normalize_observations` it does nothing.

        Raises:
            ValueError: the observation has another shape.
        """
        if self.config.normalize_observations:
            self.actor.normalizer.update(obs)

    @torch.no_grad()
    def plan(self, obs, sample, noise=None):
        """A plan for one observation: sampled, or tanh of the mean of each action's Gaussian.

        Args:
            obs: (O,) array.
            sample: whether to sample. False, for evaluation, draws no random numbers.
            noise: of a sampled plan, (h, A), standard normal at each step; None draws it. Unused without sample.

        Returns:
            Plan of numpy arrays: actions (h, A) in [-1, 1], confidences (h,).
        """
        # torch.tensor copies. Matrix products can round differently with the alignment of obs in memory, and a resumed
        # run has to be bit-exact.
        obs = torch.tensor(obs, dtype=torch.float32, device=self.device).unsqueeze(0)  # (1, O)
        obs = self.actor.normalizer(obs)
        mean, log_std, logits = self.actor(obs)
        if not sample:
            actions = torch.tanh(mean)
        else:
            if noise is None:
                z = self._noise(1, self.plan_generator)  # (1, h, A)
            else:
                z = torch.tensor(noise, device=self.device).unsqueeze(0)  # (1, h, A)
            actions, _ = squash(mean, log_std, z)
        return Plan(actions[0].cpu().numpy(), self._confidences(logits)[0].cpu().numpy())

    def update(self, batch):
        """One gradient step on critic, actor, confidence head and temperature.

        Args:
            batch: `replay_buffer.Batch`.

        Returns:
            metrics: dict of detached tensors on the device, scalars or (h - 1,); docs/metrics.md defines each.
        """
        self.num_updates += 1
        batch_size, config = len(batch.obs), self.config
        noise, actor_draws = self._noise(batch_size, self.update_generator), None
        if self.num_updates % config.actor_update_frequency == 0:
            actor_draws = (
                self._random_prefix_length(batch_size),
                self._noise(batch_size, self.update_generator),
                self._confidence_noise(batch.reached) if self.chunk_size > 1 else None,
            )
        moves_target = self.num_updates % config.critic_target_update_frequency == 0
        return self.update_step(batch, noise, actor_draws, moves_target, self._descend)

    def update_step(self, batch, noise, actor_draws, moves_target, descend):
        """The update for given random numbers: critic, then actor, temperature and confidence head, then targets.

        The fast path compiles this function, with a `descend` that can be compiled.

        Args:
            batch: `replay_buffer.Batch`.
            noise: of `critic_loss`.
            actor_draws: prefix_length, noise and confidence_noise of `actor_losses`; None leaves these updates out.
            moves_target: whether the target critics move.
            descend: (name of an optimizer, loss) -> None, one step of that optimizer.

        Returns:
            metrics.
        """
        batch = self.normalized(batch)
        loss, metrics = self.critic_loss(batch, noise)
        descend("critic", loss)
        if actor_draws is not None:
            losses, more = self.actor_losses(batch, *actor_draws)
            for name, loss in losses.items():
                descend(name, loss)
            metrics |= more
        if moves_target:
            self._update_target()
        return metrics

    def normalized(self, batch):
        """A `replay_buffer.Batch` with all its observations normalised by today's statistics."""
        normalize, reached = self.actor.normalizer, batch.reached
        if reached is not None:
            reached = self.normalized_states(reached)
        return batch._replace(obs=normalize(batch.obs), next_obs=normalize(batch.next_obs), reached=reached)

    def normalized_states(self, reached):
        """As `normalized`, for `replay_buffer.OpenLoopStates`."""
        normalize = self.actor.normalizer
        return reached._replace(planned_at=normalize(reached.planned_at), obs=normalize(reached.obs))

    def actor_losses(self, batch, prefix_length, noise, confidence_noise):
        """All losses of an actor update, at the same weights.

        Args:
            batch: `replay_buffer.Batch`, normalised.
            prefix_length: j of the actor and temperature losses, (B,).
            noise: of the chunks at batch.obs, (B, h, A), standard normal.
            confidence_noise: see `confidence_loss`; None for h = 1.

        Returns:
            {name of the optimizer: loss}, metrics.
        """
        losses = {}
        actions, log_prob, _ = self.actor.sample(batch.obs, noise)  # (B, h, A), (B, h), (B, h - 1)
        losses["actor"], metrics = self.actor_loss(batch.obs, actions, log_prob, prefix_length)
        if self.config.learnable_temperature:
            losses["temperature"], more = self.temperature_loss(log_prob.detach(), prefix_length)
            metrics |= more
        if self.chunk_size > 1:
            losses["confidence"], more = self.confidence_loss(batch.reached, confidence_noise)
            metrics |= more
        return losses, metrics

    def critic_loss(self, batch, noise):
        """Mean squared error of Q_c(s_t, a_{1:j}), summed over critics c (section 4.2, there with j = 1), with target

        y = sum_{i<j} gamma^i r_{t+i} + gamma^j (1 - terminated) V(s_{t+j}).

        Args:
            batch: `replay_buffer.Batch`, normalised.
            noise: of the chunks at s_{t+j}, (B, h, A), standard normal.

        Returns:
            loss, metrics.
        """
        with torch.no_grad():
            target = batch.reward + batch.discount * self._value(batch.next_obs, noise)  # (B,)
        q = self.critic(batch.obs, batch.actions, batch.prefix_length)  # (C, B)
        loss = (q - target).square().mean(1).sum()
        return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}

    def _value(self, obs, noise):
        """V(s) = min_c Qbar_c(s, a_{1:k}) - alpha sum_{i<=k} gamma^{i-1} log pi(a_i | s), a ~ pi(s) (section 4.1).

        k is the executed length at s. obs (B, O), normalised; noise (B, h, A) -> (B,), in units of return.
        """
        actions, log_prob, logits = self.actor.sample(obs, noise)
        k = executed_length(self._confidences(logits), self.config.confidence_threshold)
        entropy_cost = self.alpha * self._prefix_sum(self.discounts * log_prob, k)
        return self.critic_target(obs, actions, k).min(0).values - entropy_cost

    def actor_loss(self, obs, actions, log_prob, prefix_length):
        """alpha sum_{i<=j} gamma^{i-1} log pi(a_i | s) - min_c Q_c(s, a_{1:j}), a ~ pi(s), mean (section 4.2).

        Args:
            obs: normalised, (B, O).
            actions, log_prob: a chunk drawn at obs and its log-likelihoods, (B, h, A), (B, h).
            prefix_length: j, (B,).

        Returns:
            loss, metrics.
        """
        q = self.critic(obs, actions, prefix_length)  # (C, B)
        alpha = self.alpha
        entropy_cost = alpha * self._prefix_sum(self.discounts * log_prob, prefix_length)
        loss = (entropy_cost - q.min(0).values).mean()
        entropy = self._entropy(log_prob.detach(), prefix_length)
        return loss, {"actor_loss": loss.detach(), "entropy": entropy, "alpha": alpha}

    def temperature_loss(self, log_prob, prefix_length):
        """alpha (-(1/j) sum_{i<=j} log pi(a_i | s) - target_entropy), mean (equation 18).

        With j uniform, step i has the weight sum_{j>=i} 1 / (j h), which is largest for the first step.

        Args:
            log_prob: of a chunk drawn from the policy, without gradient, (B, h).
            prefix_length: j, (B,).

        Returns:
            loss, metrics.
        """
        loss = self.log_alpha.exp() * (self._entropy(log_prob, prefix_length) - self.target_entropy)
        return loss, {"alpha_loss": loss.detach()}

    def _entropy(self, log_prob, prefix_length):
        """Mean entropy per step of the prefixes, in nats, a scalar. log_prob (B, h), prefix_length (B,)."""
        return (-self._prefix_sum(log_prob, prefix_length) / prefix_length).mean()

    def confidence_loss(self, reached, noise):
        """Cross-entropy of c_{j+1} with the share of critics with A_j >= -delta; see agent/confidence.py.

        Args:
            reached: `replay_buffer.OpenLoopStates`, normalised.
            noise: of the actions that A_j compares, (R, A), standard normal.

        Returns:
            loss, with gradients for the confidence head only; metrics.
        """
        j, alpha = reached.prefix_length, self.alpha
        advantage, logits = confidence.advantage(self.actor, self.critic, reached, noise, alpha)  # (C, R), (R, h - 1)
        delta = confidence.delta(advantage, j, alpha, self.action_size, self.config.confidence_margin)
        loss, label, is_at = confidence.cross_entropy(logits, advantage, j, delta)
        count = is_at.sum(0)
        mean, square = torch.stack([advantage.mean(0), advantage.square().mean(0)]) @ is_at / count  # (h - 1,)
        metrics = {
            "confidence_loss": loss.detach(),
            "confidence_delta": delta,
            "confidence": torch.sigmoid(logits.detach()).mean(0),
            "label": label @ is_at / count,
            "advantage_mean": mean,
            "advantage_std": (square - mean * mean).clamp(min=0).sqrt(),
        }
        return loss, metrics

    @torch.no_grad()
    def predict_advantage(self, reached, num_draws=16):
        """Mean of `confidence.advantage` over critics and noise, in units of return, without gradient.

        Every call uses the same noise.

        Args:
            reached: `replay_buffer.OpenLoopStates`.
            num_draws: draws of noise; with 16 the standard error is a quarter of a single draw's.

        Returns:
            (R,).
        """
        reached = self.normalized_states(reached)
        generator = torch.Generator(self.device).manual_seed(0)
        total = torch.zeros(len(reached.obs), device=self.device)
        for _ in range(num_draws):
            noise = torch.randn((len(total), self.action_size), generator=generator, device=self.device)
            advantage, _ = confidence.advantage(self.actor, self.critic, reached, noise, self.alpha)  # (C, R)
            total += advantage.mean(0)
        return total / num_draws

    def state_dict(self):
        """Weights, statistics of observations, moments of the optimizers, random streams and number of updates.

        All of it is plain data. Learning rates and betas are left out: the configuration has them.
        """
        state = {name: getattr(self, name).state_dict() for name in self._NETWORKS}
        state |= {name: getattr(self, name).get_state() for name in self._GENERATORS}
        return state | {
            "optimizers": {name: optimizer.state_dict()["state"] for name, optimizer in self.optimizers.items()},
            "log_alpha": self.log_alpha.detach(),
            "num_updates": self.num_updates,
            "device": self.device.type,
        }

    def load_state_dict(self, state):
        """Load what `state_dict` returned.

        Random streams are loaded only on the same type of device, since the generators of others have another state.

        Raises:
            KeyError, RuntimeError, ValueError: the state is of an agent with other networks or optimizers.
        """
        for name in self._NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        for name, optimizer in self.optimizers.items():
            hyperparameters = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state["optimizers"][name], "param_groups": hyperparameters})
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        self.num_updates = state["num_updates"]
        for name in self._GENERATORS if state["device"] == self.device.type else ():
            getattr(self, name).set_state(state[name].cpu())

    def is_finite(self):
        """Whether all weights and statistics are numbers."""
        numbers = (*self.actor.parameters(), *self.actor.buffers(), *self.critic.parameters(), self.log_alpha)
        return all(torch.isfinite(p).all() for p in numbers)

    def _descend(self, name, loss):
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward(inputs=optimizer.param_groups[0]["params"])
        optimizer.step()

    @torch.no_grad()  # otherwise the targets keep the graphs of all earlier updates
    def _update_target(self):
        targets, sources = list(self.critic_target.parameters()), list(self.critic.parameters())
        torch._foreach_lerp_(targets, sources, self.config.critic_tau)

    def _noise(self, batch_size, generator):
        """Standard normal, (B, h, A)."""
        shape = (batch_size, self.chunk_size, self.action_size)
        return torch.randn(shape, generator=generator, device=self.device)

    def _confidence_noise(self, reached):
        """Standard normal, (R, A)."""
        shape = (len(reached.obs), self.action_size)
        return torch.randn(shape, generator=self.update_generator, device=self.device)

    def _random_prefix_length(self, batch_size):
        """j, uniform in 1..h, (B,)."""
        if self.chunk_size == 1:
            return torch.ones(batch_size, dtype=torch.long, device=self.device)
        return torch.randint(1, self.chunk_size + 1, (batch_size,), generator=self.update_generator, device=self.device)

    def _confidences(self, logits):
        """Logits (B, h - 1) -> confidences (B, h). The first action is always executed, so c_1 = 1."""
        return F.pad(torch.sigmoid(logits), (1, 0), value=1.0)

    def _prefix_sum(self, values, prefix_length):
        """Sum of the first j of (B, h) values -> (B,)."""
        return torch.where(self.step_index < prefix_length[:, None], values, 0.0).sum(1)
