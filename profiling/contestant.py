"""One contestant of the learner benchmark, a process of its own; profiling/learner.py starts and drives it.

Announces itself with a line of JSON, then answers each number n on its input with the wall and CPU seconds of n
updates.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import sys
import time
import timeit

OBS, ACTIONS, BUFFERED = 17, 6, 20_000


def ways_to_multiply(m, k, n):
    """Functions of nothing that multiply one pair of random matrices, (m, k) by (k, n), the second in both layouts."""
    import torch

    a, b, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    return [functools.partial(torch.mm, a, laid_out, out=out) for laid_out in (b, b.t().contiguous().t())]


@functools.cache
def fastest_way(m, k, n):
    """Index of the fastest of `ways_to_multiply` on this machine."""
    ways = ways_to_multiply(m, k, n)
    seconds = [min(timeit.repeat(way, timer=time.process_time, number=3, repeat=7)) for way in ways]
    return seconds.index(min(seconds))


def matmul_bound(width, batch_size, **_):
    """The matrix products of one SAC update (h = 1) alone: forwards, input gradients and weight gradients.

    For each shape in the faster layout.
    """
    import torch

    torch.set_num_threads(1)
    critic = [(OBS + ACTIONS, width), (width, width), (width, 1)]
    actor = [(OBS, width), (width, width), (width, 2 * ACTIONS)]

    calls = []

    def add(layers, weight_gradients=False, first_input_gradient=3):
        for i, (m, n) in enumerate(layers):
            shapes = [(batch_size, m, n)]
            if weight_gradients:
                shapes.append((m, batch_size, n))
            if i >= first_input_gradient:
                shapes.append((batch_size, n, m))
            calls.extend(ways_to_multiply(*shape)[fastest_way(*shape)] for shape in shapes)

    add(actor)  # a' ~ pi(s')
    add(actor, weight_gradients=True, first_input_gradient=1)  # actor loss
    for _ in range(2):
        add(critic)  # target critics
        add(critic, weight_gradients=True, first_input_gradient=1)  # critic loss
        add(critic, first_input_gradient=0)  # actor loss, through the critics to the action

    def updates(n):
        for _ in range(n):
            for multiply in calls:
                multiply()

    return updates, "torch"


def agent_and_buffer(width, *, h, layer_norm, reference, compile):
    """`SACAgent` on one thread, as train.py would make it, and a replay buffer of random steps."""
    import numpy as np
    import torch

    from agent import SACAgent, fast_path
    from cli import parse_train_args
    from replay_buffer import ReplayBuffer

    torch.set_num_threads(1)
    flags = f"--env none --chunk_size {h} --hidden_dim {width} --{'' if layer_norm else 'no-'}critic_layer_norm"
    flags += " --no-normalize_observations"  # the other packages leave that to the environment
    agent = SACAgent(OBS, ACTIONS, parse_train_args(flags.split())[0], "cpu")
    if not reference:
        fast_path.install(agent, 1 if compile else None)
    buffer = ReplayBuffer(OBS, ACTIONS, BUFFERED, h, 0.99, False, "cpu", np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for i in range(BUFFERED - 100):
        obs, next_obs = rng.normal(size=(2, OBS))
        buffer.add(obs, rng.uniform(-1, 1, ACTIONS), rng.normal(), next_obs, False, i % 1000 == 999)
    return agent, buffer


def ours(width, batch_size, **options):
    agent, buffer = agent_and_buffer(width, **options)

    def updates(n):
        for _ in range(n):
            agent.update(buffer.sample(batch_size))

    return updates, "torch"


def fake_env():
    import gymnasium as gym
    import numpy as np

    class Fake(gym.Env):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
        action_space = gym.spaces.Box(-1, 1, (ACTIONS,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.normal(size=OBS).astype(np.float32), {}

        def step(self, action):
            obs = self.np_random.normal(size=OBS).astype(np.float32)
            return obs, float(self.np_random.normal()), False, False, {}

    return gym.wrappers.TimeLimit(Fake(), 1000)


def sb3_model(algorithm, width, batch_size, **policy):
    """A model of stable-baselines3's interface with a full replay buffer; policy: more of its policy_kwargs."""
    sizes = {"batch_size": batch_size, "learning_starts": BUFFERED, "buffer_size": BUFFERED}
    model = algorithm("MlpPolicy", fake_env(), policy_kwargs={"net_arch": [width, width], **policy}, **sizes)
    return model.learn(BUFFERED)


def stable_baselines3(width, batch_size, **_):
    import torch
    from stable_baselines3 import SAC

    torch.set_num_threads(1)
    model = sb3_model(SAC, width, batch_size)
    return lambda n: model.train(gradient_steps=n, batch_size=batch_size), "stable-baselines3"


def sbx(width, batch_size, *, layer_norm, **_):
    import jax
    from sbx import SAC

    model = sb3_model(SAC, width, batch_size, layer_norm=layer_norm)

    def updates(n):
        model.train(gradient_steps=n, batch_size=batch_size)
        jax.block_until_ready((model.policy.actor_state.params, model.policy.qf_state.params))

    return updates, "sbx-rl"


def torchrl_losses(width):
    """TorchRL's loss module of SAC."""
    import torch
    from tensordict.nn import InteractionType, NormalParamExtractor, TensorDictModule
    from torchrl.data import Bounded
    from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives.sac import SACLoss

    layers = {"num_cells": [width, width], "activation_class": torch.nn.ReLU}
    net = torch.nn.Sequential(MLP(in_features=OBS, out_features=2 * ACTIONS, **layers), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"]),
        spec=Bounded(-torch.ones(ACTIONS), torch.ones(ACTIONS)),
        in_keys=["loc", "scale"],
        distribution_class=TanhNormal,
        default_interaction_type=InteractionType.RANDOM,
    )
    q = MLP(in_features=OBS + ACTIONS, out_features=1, **layers)
    critic = ValueOperator(q, in_keys=["action", "observation"])
    losses = SACLoss(actor, critic, num_qvalue_nets=2, loss_function="l2", delay_actor=False, delay_qvalue=True)
    losses.make_value_estimator(gamma=0.99)
    return losses


def torchrl_batch(batch_size):
    """A batch of random transitions as a TensorDict."""
    import torch
    from tensordict import TensorDict

    following = {
        "observation": torch.randn(batch_size, OBS),
        "reward": torch.randn(batch_size, 1),
        "done": torch.zeros(batch_size, 1, dtype=torch.bool),
        "terminated": torch.zeros(batch_size, 1, dtype=torch.bool),
    }
    obs, action = torch.randn(batch_size, OBS), torch.rand(batch_size, ACTIONS) * 2 - 1
    return TensorDict({"observation": obs, "action": action, "next": following}, [batch_size])


def torchrl(width, batch_size, *, compile, **_):
    """The update of TorchRL's own sota-implementations/sac: one backward of the sum, one optimizer for all.

    The losses share no gradient: SACLoss detaches what each does not train.
    """
    import torch
    from torchrl.objectives import SoftUpdate, group_optimizers

    torch.set_num_threads(1)
    loss_module, batch = torchrl_losses(width), torchrl_batch(batch_size)
    target = SoftUpdate(loss_module, tau=0.005)
    groups = (loss_module.actor_network_params, loss_module.qvalue_network_params)
    parameters = [list(g.flatten_keys().values()) for g in groups]
    optimizer = group_optimizers(*(torch.optim.Adam(p, 3e-4) for p in (*parameters, [loss_module.log_alpha])))

    def update():
        losses = loss_module(batch)
        (losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        target.step()

    step = torch.compile(update) if compile else update

    def updates(n):
        for _ in range(n):
            step()

    return updates, "torchrl"


CONTESTANTS = {
    "matmul_bound": matmul_bound,
    "ours": ours,
    "stable-baselines3": stable_baselines3,
    "sbx": sbx,
    "torchrl": torchrl,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--h", type=int, default=1)
    parser.add_argument("--layer_norm", action="store_true")
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--warmup", type=int)
    args = parser.parse_args()
    options = {"h": args.h, "layer_norm": args.layer_norm, "reference": args.reference, "compile": args.compile}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, whatever a library would like
    started = time.perf_counter()
    updates, package = CONTESTANTS[args.name](args.width, args.batch_size, **options)
    updates(args.warmup)
    version = importlib.metadata.version(package)
    print(json.dumps({"package": f"{package} {version}", "start_s": time.perf_counter() - started}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        updates(int(line))
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    main()
