"""Compiled gradients: PyTorch's Inductor fuses what lies between the matrix products into a few kernels."""

import warnings

import torch

COMPILE_FROM = 1000  # first compiled update: a run with wrong flags fails before the half minute of compilation
COMPILE_WORTH = 30_000  # updates after which compilation has paid for itself, with some to spare


def has_compiler():
    """Whether there is a C++ compiler, which Inductor needs on a CPU."""
    from torch._inductor import cpp_builder, exc

    try:
        return bool(cpp_builder.get_cpp_compiler())
    except (exc.InvalidCxxCompiler, RuntimeError):  # the second is Windows'
        return False


def pays(config, device):
    """Whether a whole run on a torch device is faster with compilation, its time included."""
    updates = (config.num_train_steps - config.num_seed_steps) * config.updates_per_step
    return device.type == "cpu" and updates >= COMPILE_WORTH and has_compiler()


def compiled(function):
    """The function, compiled at its first call; with a warning the function itself, if it cannot be compiled here.

    It may call torch.autograd.grad; the shapes of its arguments stay what they are at the first call.
    """
    try:
        torch._dynamo.config.trace_autograd_ops = True
    except AttributeError as error:  # the setting is private to PyTorch
        warnings.warn(f"training without compiled gradients: {error}", stacklevel=2)
        return function
    fast = torch.compile(function, fullgraph=True, dynamic=False)

    def call(*args):
        nonlocal fast
        try:
            return fast(*args)
        except torch._dynamo.exc.TorchDynamoException as error:  # raised before anything was computed
            reason = str(error).partition("\n")[0]
            warnings.warn(f"training without compiled gradients: {reason}", stacklevel=2)
            fast = function
            return function(*args)

    return call


def install(agent, compile_from):
    """Take an agent's gradients from compiled code, of the agent's own losses.

    Args:
        agent: `SACAgent`; its update_critic and update_actor are replaced.
        compile_from: number of the first update with compiled gradients; also after a resume.
    """
    parameters = {name: optimizer.param_groups[0]["params"] for name, optimizer in agent.optimizers.items()}

    # Two functions, for Dynamo keeps what it compiled by the function's code.
    @compiled
    def critic_gradients(batch, noise):
        loss, metrics = agent.critic_loss(batch, noise)
        return {"critic": torch.autograd.grad(loss, parameters["critic"])}, metrics

    @compiled
    def actor_gradients(batch, prefix_length, noise, confidence_noise):
        losses, metrics = agent.actor_losses(batch, prefix_length, noise, confidence_noise)
        return {name: torch.autograd.grad(loss, parameters[name]) for name, loss in losses.items()}, metrics

    def replacement(update, gradients_of):
        def fast_update(*inputs):
            if agent.num_updates < compile_from:
                return update(*inputs)
            gradients, metrics = gradients_of(*inputs)
            for name, values in gradients.items():
                for p, gradient in zip(parameters[name], values, strict=True):
                    p.grad = gradient
                agent.optimizers[name].step()
            return metrics

        return fast_update

    agent.update_critic = replacement(agent.update_critic, critic_gradients)
    agent.update_actor = replacement(agent.update_actor, actor_gradients)
