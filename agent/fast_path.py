"""The fast path of an agent's update. It computes what `sac.py` says, up to rounding, on the same parameters."""

import torch

from agent import compilation


def install(agent, compile_from=None, on_failure=lambda reason: None):
    """Make an agent's updates fast: fused optimizers, and from some update on one compiled function.

    Call it once, after `load_state_dict`.

    Args:
        agent: `SACAgent`.
        compile_from: number of the first compiled update; None compiles nothing.
        on_failure: called with the reason, a line, if nothing can be compiled.
    """
    if agent.device.type in ("cpu", "cuda"):
        for optimizer in agent.optimizers.values():
            fuse(optimizer)
    if compile_from is not None:
        compilation.install(agent, compile_from, on_failure)


def fuse(optimizer):
    """Let an Adam update all its parameters in one kernel."""
    for group in optimizer.param_groups:
        group["fused"] = True
    for p, state in optimizer.state.items():  # the kernel counts steps where the parameters are
        state["step"] = state["step"].to(p.device, torch.float32)
