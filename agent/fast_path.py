"""The fast path of an agent's update. It computes what `sac.py` says, up to rounding, on the same parameters."""

import torch

from agent import compilation, fast_mlp
from agent.mlp import MLP


def install(agent, compile_from=None):
    """Make an agent's updates fast: oneDNN products, written-out gradients, fused optimizers, compiled gradients.

    Call it once, before or after `load_state_dict`.

    Args:
        agent: `SACAgent`.
        compile_from: number of the first update with compiled gradients; None compiles nothing.
    """
    if agent.device.type == "cpu":
        fast_mlp.probe_onednn()
    for network in (agent.actor, agent.critic, agent.critic_target):
        for module in network.modules():
            if type(module) is MLP:
                module.__class__ = fast_mlp.FastMLP
    if agent.device.type in ("cpu", "cuda"):
        for optimizer in agent.optimizers.values():
            fuse(optimizer)
    if compile_from is not None:
        compilation.install(agent, compile_from)
    agent.update_actor = without_gradient_of(agent.critic, agent.update_actor)


def fuse(optimizer):
    """Let an Adam update all its parameters in one kernel."""
    for group in optimizer.param_groups:
        group["fused"] = True
    for p, state in optimizer.state.items():  # the kernel counts steps where the parameters are
        state["step"] = state["step"].to(p.device, torch.float32)


def without_gradient_of(module, function):
    """The function, called while the module's weights require no gradient.

    The written-out gradients compute what requires one, not only the inputs that backward was asked for.
    """

    def call(*args):
        module.requires_grad_(False)
        try:
            return function(*args)
        finally:
            module.requires_grad_(True)

    return call
