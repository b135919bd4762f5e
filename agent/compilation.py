"""One compiled function for a whole update: PyTorch's Inductor fuses what lies between the matrix products."""

import signal
import warnings
from contextlib import contextmanager

import torch

COMPILE_FROM = 1000  # first compiled update: a run with wrong flags fails before the minute or two of compilation


def has_compiler():
    """Whether there is a C++ compiler, which Inductor needs on a CPU."""
    from torch._inductor import cpp_builder, exc

    try:
        return bool(cpp_builder.get_cpp_compiler())
    except (exc.InvalidCxxCompiler, RuntimeError):  # the second is Windows'
        return False


def compiled(function, variants, device):
    """The function, compiled at its first call.

    It may call torch.autograd.grad. The shapes of its arguments stay what they are at the first call.

    Args:
        variants: names of the arguments that choose between code paths: whether they are None, true or false.
        device: torch device of the tensors.

    Raises:
        AttributeError, RuntimeError: this version of PyTorch lacks a private setting that this needs.
    """
    torch._dynamo.config.trace_autograd_ops = True
    # Dynamo keeps what it has compiled with the code object; another agent's shapes may be different.
    function.__code__ = function.__code__.replace()

    # Nothing else changes from call to call, and checking it takes as long as a matrix product.
    def needed(guards):
        return [guard.name in variants for guard in guards]

    # Python takes as long to launch a small kernel as the kernel to run: C++ calls them, or CUDA replays their graph.
    launch = {"triton.cudagraphs": True} if device.type == "cuda" else {"cpp_wrapper": True}
    return torch.compile(function, fullgraph=True, dynamic=False, options={"guard_filter_fn": needed} | launch)


@contextmanager
def sheltered_compilers():
    """Context in which Ctrl-C does not end processes that are started: in a terminal it goes to all of them.

    Otherwise a compiler that it ends could leave the rest of the run uncompiled, or compiled for fewer instructions.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Adam:
    """The step of a torch.optim.Adam in operations that can be compiled, on its parameters and moments.

    Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    Args:
        optimizer: has one group of parameters.
    """

    def __init__(self, optimizer):
        (self.group,) = optimizer.param_groups
        self.parameters = self.group["params"]
        for p in self.parameters:
            if not optimizer.state[p]:
                zero = torch.zeros((), device=p.device)
                moments = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
                optimizer.state[p].update(step=zero, **moments)
        states = [optimizer.state[p] for p in self.parameters]
        self.step_counts = [state["step"] for state in states]
        self.means = [state["exp_avg"] for state in states]
        self.squares = [state["exp_avg_sq"] for state in states]
        self.num_steps = int(self.step_counts[0])

    def count(self, number=1):
        """Count steps, outside of compiled code: PyTorch counts per parameter, which would be a kernel each."""
        self.num_steps += number
        torch._foreach_add_(self.step_counts, number)

    def corrections(self):
        """lr / (1 - beta1^t) and sqrt(1 - beta2^t) of step t, (2,)."""
        beta1, beta2 = self.group["betas"]
        rate, root = self.group["lr"] / (1 - beta1**self.num_steps), (1 - beta2**self.num_steps) ** 0.5
        return torch.tensor([rate, root], device=self.parameters[0].device)

    def descend(self, loss, corrections):
        """One step on a loss."""
        gradients = torch.autograd.grad(loss, self.parameters)
        beta1, beta2 = self.group["betas"]
        rate, root = corrections
        with torch.no_grad():
            for p, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
                mean.lerp_(gradient, 1 - beta1)
                square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                p.sub_(rate * mean / (square.sqrt() / root + self.group["eps"]))


def install(agent, compile_from, on_failure):
    """Run an agent's updates in compiled code; call it after `load_state_dict`.

    Args:
        agent: `SACAgent`; its update_step is replaced.
        compile_from: number of the first compiled update; also after a resume.
        on_failure: called with the reason, a line, if nothing can be compiled; then updates stay the agent's own.
    """
    optimizers = {}
    plain_step = agent.update_step

    def update_step(batch, noise, actor_draws, moves_target, corrections):
        def descend(name, loss):
            optimizers[name].descend(loss, corrections[name])

        return plain_step(batch, noise, actor_draws, moves_target, descend)

    try:
        fast_step = compiled(update_step, ("actor_draws", "moves_target"), agent.device)
    except (AttributeError, RuntimeError) as error:
        return give_up(error, on_failure)

    def replacement(batch, noise, actor_draws, moves_target, descend):
        if agent.num_updates < compile_from:
            return plain_step(batch, noise, actor_draws, moves_target, descend)
        if not optimizers:
            optimizers.update((name, Adam(optimizer)) for name, optimizer in agent.optimizers.items())
        stepped = {name: optimizers[name] for name in (optimizers if actor_draws is not None else ("critic",))}
        for optimizer in stepped.values():
            optimizer.count()
        corrections = {name: optimizer.corrections() for name, optimizer in stepped.items()}
        try:
            with sheltered_compilers():
                return fast_step(batch, noise, actor_draws, moves_target, corrections)
        except torch._dynamo.exc.TorchDynamoException as error:  # raised before anything was computed
            give_up(error, on_failure)
        for optimizer in stepped.values():
            optimizer.count(-1)
        agent.update_step = plain_step
        return plain_step(batch, noise, actor_draws, moves_target, descend)

    agent.update_step = replacement


def give_up(error, on_failure):
    """Say why nothing is compiled."""
    reason = str(error).partition("\n")[0]
    warnings.warn(f"training without compiled code: {reason}", stacklevel=3)
    on_failure(reason)
