"""Multiply-adds of learning, per simulator step: docs/results.md has the formula and the agents that it fits.

Only matrix products are counted. A network is the list of the (inputs, outputs) of its linear layers.
"""

import itertools

from agent.actor import CONFIDENCE_UNITS
from replay_buffer import WINDOWS_PER_OPEN_LOOP_STATE


def chain(*sizes):
    """The layers of a multi-layer perceptron with these numbers of units."""
    return list(itertools.pairwise(sizes))


def residual(inputs, units, blocks, expansion, outputs):
    """The layers of an embedding, of residual blocks of two layers (units, expansion x units, units), and an output."""
    block = chain(units, expansion * units, units)
    return [(inputs, units), *(block * blocks), (units, outputs)]


def forward(layers):
    """Multiply-adds of one sample's forward pass; as many again give the gradients of all weights, or of all inputs."""
    return sum(inputs * outputs for inputs, outputs in layers)


def gradient(layers):
    """Multiply-adds of the gradient of the weights; the first layer needs none of its inputs."""
    return 2 * forward(layers) - forward(layers[:1])


def sac_update(actor, critic, num_critics):
    """Multiply-adds of one update of SAC, per sample.

    Target: actor and target critics. Critic loss: critics and their gradient. Actor loss: actor, its gradient, critics
    and the gradient of their inputs.
    """
    critics = num_critics * (4 * forward(critic) + gradient(critic))
    return critics + 2 * forward(actor) + gradient(actor)


def chunked_update(obs_size, action_size, chunk_size, hidden_dim, hidden_depth, batch_size):
    """Multiply-adds of one update of this package's agent, O, A, h and B as in docs/algorithm.md; h = 1 is SAC."""
    h, hidden = chunk_size, [hidden_dim] * hidden_depth
    actor = chain(obs_size, *hidden, 2 * h * action_size)
    critic = chain(obs_size + h * action_size + (h if h > 1 else 0), *hidden, 1)
    total = batch_size * sac_update(actor, critic, num_critics=2)
    if h > 1:
        head = chain(hidden_dim, CONFIDENCE_UNITS, h - 1)
        states = batch_size // WINDOWS_PER_OPEN_LOOP_STATE  # R
        total += 2 * states * (forward(actor) + 2 * forward(critic) + forward(head) + gradient(head))
        total += 3 * states * (h - 1)  # of metrics
        total += 2 * batch_size * forward(head)  # the executed length at s_{t+j}; the actor's pass has it too
    return total


def per_step(agent, obs_size, action_size):
    """Multiply-adds per simulator step of an agent of `AGENTS`."""
    updates, batch_size, actor, critic, num_critics = AGENTS[agent](obs_size, action_size)
    return updates * batch_size * sac_update(actor, critic, num_critics)


def _simba(updates, bins):
    return lambda o, a: (updates, 256, residual(o, 128, 1, 4, 2 * a), residual(o + a, 512, 2, 4, bins), 1)


def _bro(updates):
    # Its second, optimistic actor is left out: it is small beside the critics.
    return lambda o, a: (updates, 128, residual(o, 256, 1, 1, 2 * a), residual(o + a, 512, 2, 1, 100), 2)


# Updates per simulator step, batch size, actor, critic, number of critics. The names are those of
# results/reference/published_100k.csv.
AGENTS = {
    "SAC(256,MLP)": lambda o, a: (1, 256, chain(o, 256, 256, 2 * a), chain(o + a, 256, 256, 1), 2),
    "pytorch_sac (1024)": lambda o, a: (1, 1024, chain(o, 1024, 1024, 2 * a), chain(o + a, 1024, 1024, 1), 2),
    "SimBa UTD1": _simba(0.5, 1),
    "SimBa UTD2": _simba(1, 1),
    "SimBa UTD4": _simba(2, 1),
    "SimBa UTD8": _simba(4, 1),
    "SimbaV2 UTD1": _simba(0.5, 101),
    "SimbaV2 UTD2": _simba(1, 101),
    "SimbaV2 UTD4": _simba(2, 101),
    "SimbaV2 UTD8": _simba(4, 101),
    "BRO(fast) UTD2": _bro(2),
    "BRO UTD10": _bro(10),
}
