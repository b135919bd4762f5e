"""Soft Actor-Critic over action prefixes.

With h = 1 every formula below is that of SAC (Haarnoja et al. 2018b, arXiv:1812.05905) with twin critics and a
learned temperature. For h > 1 the critic values every prefix a_{1:j} of a chunk, and the bootstrap executes as many
steps of a fresh chunk as the policy would (Q-chunking: Li et al. 2025, arXiv:2507.07969, for fixed lengths).
"""

import copy
import inspect

import torch
import torch.nn.functional as F

from agent import confidence
from agent.actor import Actor
from agent.chunking import Plan, executed_length
from agent.compilation import compiled
from agent.critic import Critic
from utils import torch_generator


class SACAgent:
    """Actor, twin prefix critics, temperature and their updates.

    Args:
        obs_size, action_size: O, A.
        chunk_size: h; 1 is plain SAC.
        confidence_threshold: c_i at or above it continues a plan, in [0, 1].
        confidence_margin: how much worse than looking again executing a planned step may be, as a multiple of
            `confidence.indifference`.
        noise_correlation, learnable_noise_correlation: see `Actor`.
        target_entropy: nats an action; None is -A.
        discount: gamma, a step.
        init_temperature, learnable_temperature: alpha at the start, whether it is learned.
        actor_lr, confidence_lr, critic_lr, alpha_lr, actor_betas, critic_betas, alpha_betas: of Adam; the confidence
            head has the betas of the actor.
        actor_update_frequency, critic_target_update_frequency: in updates.
        critic_tau: step of the target critic towards the critic.
        actor_log_std_bounds, hidden_dim, hidden_depth, critic_layer_norm: of the networks.
        device: torch device.
        seed: of the initial weights, of plans and of updates.

    Attributes:
        compile_from: the update from which on gradients come from compiled code; None, the default, is never.
    """

    _STATEFUL = ("actor", "critic", "critic_target", "actor_optimizer", "critic_optimizer")
    _GENERATORS = ("plan_generator", "update_generator")

    def __init__(
        self,
        obs_size,
        action_size,
        *,
        chunk_size,
        confidence_threshold,
        confidence_margin,
        noise_correlation,
        learnable_noise_correlation,
        target_entropy,
        discount,
        init_temperature,
        learnable_temperature,
        actor_lr,
        confidence_lr,
        critic_lr,
        alpha_lr,
        actor_betas,
        critic_betas,
        alpha_betas,
        actor_update_frequency,
        critic_target_update_frequency,
        critic_tau,
        actor_log_std_bounds,
        hidden_dim,
        hidden_depth,
        critic_layer_norm,
        device,
        seed,
    ):
        self.chunk_size, self.action_size, self.device = chunk_size, action_size, torch.device(device)
        self.confidence_threshold, self.discount = confidence_threshold, discount
        self.confidence_margin = confidence_margin
        self.target_entropy = -action_size if target_entropy is None else target_entropy
        self.learnable_temperature = learnable_temperature
        self.actor_update_frequency = actor_update_frequency
        self.critic_target_update_frequency = critic_target_update_frequency
        self.critic_tau = critic_tau
        self.compile_from = None
        self.num_updates = 0
        self.plan_generator = torch_generator(seed, "plan", self.device)
        self.update_generator = torch_generator(seed, "update", self.device)

        torch.manual_seed(seed)
        self.actor = Actor(
            obs_size,
            action_size,
            chunk_size,
            hidden_dim,
            hidden_depth,
            actor_log_std_bounds,
            noise_correlation,
            learnable_noise_correlation,
        ).to(self.device)
        self.critic = Critic(obs_size, action_size, chunk_size, hidden_dim, hidden_depth, critic_layer_norm)
        self.critic = self.critic.to(self.device)
        self.critic_target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_alpha = torch.tensor(init_temperature, device=self.device).log()

        self.actor_parameters = [p for p in self.actor.parameters() if p.requires_grad]
        self.critic_parameters = list(self.critic.parameters())
        self.critic_target_parameters = list(self.critic_target.parameters())
        self.critic_optimizer = torch.optim.Adam(self.critic_parameters, critic_lr, critic_betas, fused=True)
        head = set(self.actor.confidence.parameters()) if chunk_size > 1 else set()
        groups = [{"params": [p for p in self.actor_parameters if p not in head]}]
        if head:
            groups.append({"params": [p for p in self.actor_parameters if p in head], "lr": confidence_lr})
        if learnable_temperature:
            groups.append({"params": [self.log_alpha], "lr": alpha_lr, "betas": tuple(alpha_betas)})
        self.actor_optimizer = torch.optim.Adam(groups, actor_lr, actor_betas, fused=True)
        # gamma^{i-1} for i = 1..h, (h,)
        self.discounts = discount ** torch.arange(chunk_size, device=self.device, dtype=torch.float32)
        self.steps = torch.arange(chunk_size, device=self.device)

    @classmethod
    def from_flags(cls, obs_size, action_size, flags):
        """An agent from a dict of train.py's flags, whose names are those of the keyword arguments; others are left."""
        return cls(obs_size, action_size, **{name: flags[name] for name in inspect.getfullargspec(cls).kwonlyargs})

    @torch.no_grad()
    def plan(self, obs, sample):
        """A chunk for one observation: sampled, or the mode of each action's Gaussian.

        Args:
            obs: (O,) array.
            sample: False for evaluation; draws no random numbers then.

        Returns:
            Plan of numpy arrays: actions (h, A), confidences (h,).
        """
        # A copy: matrix products may round differently on memory that is aligned differently.
        obs = torch.tensor(obs, dtype=torch.float32, device=self.device).unsqueeze(0)
        if sample:
            actions, _, logits = self.actor.sample(obs, self._noise(1, self.plan_generator))
        else:
            mean, _, logits = self.actor(obs)
            actions = torch.tanh(mean)
        return Plan(actions[0].cpu().numpy(), self._confidences(logits)[0].cpu().numpy())

    def state_dict(self):
        """Everything that the future depends on: weights, optimizers, temperature, random streams."""
        state = {name: getattr(self, name).state_dict() for name in self._STATEFUL}
        state |= {name: getattr(self, name).get_state() for name in self._GENERATORS}
        return state | {"log_alpha": self.log_alpha, "num_updates": self.num_updates, "device": self.device.type}

    def load_state_dict(self, state):
        """Take over what `state_dict` gave; random streams only on the same kind of device, others start anew."""
        for name in self._STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        self.log_alpha.copy_(state["log_alpha"])
        self.num_updates = state["num_updates"]
        for name in self._GENERATORS if state["device"] == self.device.type else ():
            getattr(self, name).set_state(state[name].cpu())

    def is_finite(self):
        """Whether all weights are numbers."""
        return all(torch.isfinite(p).all() for p in (*self.actor.parameters(), *self.critic_parameters, self.log_alpha))

    def update(self, batch):
        """One gradient step on critic, actor and temperature.

        Args:
            batch: `replay_buffer.Batch`.

        Returns:
            dict of detached tensors on the device, scalars and (h - 1,) vectors; the README defines each.
        """
        self.num_updates += 1
        if self.compile_from is not None and self.num_updates >= self.compile_from:
            self.compile_from = None
            self._critic_gradient = compiled(self._critic_gradient)
            self._actor_gradient = compiled(self._actor_gradient)
        alpha = self.log_alpha.exp()
        metrics = self._update_critic(batch, alpha)
        if self.num_updates % self.actor_update_frequency == 0:
            metrics |= self._update_actor(batch.obs, batch.reached, alpha)
        if self.num_updates % self.critic_target_update_frequency == 0:
            with torch.no_grad():  # otherwise the targets' graph grows with every update
                torch._foreach_lerp_(self.critic_target_parameters, self.critic_parameters, self.critic_tau)
        return metrics

    @torch.no_grad()
    def predict_advantage(self, reached, num_draws=16):
        """What the critics expect of the next planned step, (R,): mean of `confidence.advantage` over them and noise.

        The same noise is drawn at every call.
        """
        generator = torch.Generator(self.device).manual_seed(0)
        total = torch.zeros(len(reached.obs), device=self.device)
        for _ in range(num_draws):
            noise = torch.randn((len(total), self.action_size), generator=generator, device=self.device)
            total += confidence.advantage(self.actor, self.critic, reached, noise, self.log_alpha.exp())[0].mean(0)
        return total / num_draws

    def _update_critic(self, batch, alpha):
        noise = self._noise(len(batch.next_obs), self.update_generator)
        gradients, metrics = self._critic_gradient(batch, noise, alpha)
        self._descend(self.critic_optimizer, self.critic_parameters, gradients)
        return metrics

    def _update_actor(self, obs, reached, alpha):
        batch_size, h = len(obs), self.chunk_size
        j = torch.ones(batch_size, dtype=torch.long, device=self.device)
        if h > 1:
            j = torch.randint(1, h + 1, (batch_size,), generator=self.update_generator, device=self.device)
        self.critic.requires_grad_(False)
        noise = self._noise(batch_size, self.update_generator)
        gradients, metrics = self._actor_gradient(obs, reached, j, noise, alpha)
        self.critic.requires_grad_(True)
        if self.learnable_temperature:
            self.log_alpha.grad = metrics["alpha_loss"]  # d alpha / d log alpha = alpha: the gradient is the loss
        self._descend(self.actor_optimizer, self.actor_parameters, gradients)
        return metrics

    def _critic_gradient(self, batch, noise, alpha):
        """Gradient of the mean squared error of Q_c(s_t, a_{1:j}) against

        y = sum_{i<j} gamma^i r_{t+i} + gamma^j (1 - terminated) V(s_{t+j}),

        one tensor a parameter of the critics, and metrics.
        """
        with torch.no_grad():
            target = batch.reward + batch.discount * self._value(batch.next_obs, noise, alpha)  # (B,)
        q = self.critic(batch.obs, batch.actions, batch.length)  # (C, B)
        loss = (q - target).square().mean(1).sum()
        metrics = {"critic_loss": loss.detach(), "q": q.detach().mean()}
        return torch.autograd.grad(loss, self.critic_parameters), metrics

    def _value(self, obs, noise, alpha):
        """V(s) = min_c Qbar_c(s, a_{1:k}) - alpha sum_{i<=k} gamma^{i-1} log pi(a_i | s), a ~ pi(s), (B,)."""
        actions, log_prob, logits = self.actor.sample(obs, noise)
        k = executed_length(self._confidences(logits), self.confidence_threshold)
        entropy_cost = alpha * self._prefix_sum(self.discounts * log_prob, k)
        return self.critic_target(obs, actions, k).min(0).values - entropy_cost

    def _actor_gradient(self, obs, reached, j, noise, alpha):
        """Gradient of the losses of actor, with fresh chunks and prefix lengths j (B,), and of the confidences:

        actor        alpha sum_{i<=j} gamma^{i-1} log pi(a_i | s) - min_c Q_c(s, a_{1:j})
        confidence   see `confidence.cross_entropy`
        temperature  alpha (-(1/j) sum_{i<=j} log pi(a_i | s) - target_entropy), a metric

        one tensor a parameter of the actor, and metrics. The critics' weights must not require a gradient.
        """
        actions, log_prob, _ = self.actor.sample(obs, noise)
        q = self.critic(obs, actions, j)  # (C, B)
        loss = (alpha * self._prefix_sum(self.discounts * log_prob, j) - q.min(0).values).mean()
        entropy = (-self._prefix_sum(log_prob.detach(), j) / j).mean()  # an executed step
        metrics = {"actor_loss": loss.detach(), "entropy": entropy, "alpha": alpha}
        if self.learnable_temperature:
            metrics["alpha_loss"] = alpha * (entropy - self.target_entropy)
        if self.chunk_size > 1:
            confidence_loss, confidence_metrics = self._confidence_loss(reached, noise[: len(reached.obs), 0], alpha)
            loss = loss + confidence_loss
            metrics |= confidence_metrics
        return torch.autograd.grad(loss, self.actor_parameters), metrics

    def _confidence_loss(self, reached, noise, alpha):
        advantage, logits = confidence.advantage(self.actor, self.critic, reached, noise, alpha)
        delta = self.confidence_margin * confidence.indifference(advantage, reached.steps, alpha, self.action_size)
        loss, label, is_at = confidence.cross_entropy(logits, advantage, reached.steps, delta)
        count = is_at.sum(0)
        mean, square = torch.stack([advantage.mean(0), advantage.square().mean(0)]) @ is_at / count  # (h - 1,)
        return loss, {
            "confidence_loss": loss.detach(),
            "confidence_delta": delta,
            "confidence": torch.sigmoid(logits.detach()).mean(0),
            "label": label @ is_at / count,
            "advantage_mean": mean,
            "advantage_std": (square - mean * mean).clamp(min=0).sqrt(),
            "noise_correlation": self.actor.noise_correlation().detach().mean(),
        }

    @staticmethod
    def _descend(optimizer, parameters, gradients):
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        optimizer.step()

    def _noise(self, batch_size, generator):
        shape = (batch_size, self.chunk_size, self.action_size)
        return torch.randn(shape, generator=generator, device=self.device)

    def _confidences(self, logits):
        """Logits (B, h - 1) -> c (B, h); the first action is always executed, so c_1 = 1."""
        return F.pad(torch.sigmoid(logits), (1, 0), value=1.0)

    def _prefix_sum(self, values, length):
        """Sum of the first j of (B, h) values -> (B,)."""
        return torch.where(self.steps < length[:, None], values, 0.0).sum(1)
