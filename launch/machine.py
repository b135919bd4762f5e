"""What of a run's configuration depends on the machine: threads and compilation."""

from dataclasses import replace

from agent import compilation
from errors import UsageError
from launch.process import LARGE_HIDDEN_DIM, num_cores
from utils import choose_device

COMPILE_WORTH = 30_000  # updates after which compilation has paid for itself, with some to spare


def resolve(config):
    """The configuration with `compile` and `num_threads` resolved for this machine.

    Raises:
        UsageError: the device or the compiler that the flags ask for is missing.
    """
    try:
        device = choose_device(config.device)
    except ValueError as error:
        raise UsageError(f"argument --device: {error}") from error
    compile, num_threads = config.compile, config.num_threads
    if compile == "auto":
        compile = "on" if config.fast_path and compilation_pays(config, device) else "off"
    elif compile == "on" and not config.fast_path:
        raise UsageError("argument --compile: on needs --fast_path; add --compile off")
    elif compile == "on" and device.type == "cpu" and not compilation.has_compiler():
        raise UsageError("argument --compile: there is no C++ compiler here; install one, name it in CXX, or use off")
    if num_threads is None:
        num_threads = default_num_threads(config.hidden_dim, device.type)
    return replace(config, compile=compile, num_threads=num_threads)


def default_num_threads(hidden_dim, device_type):
    """Default of --num_threads.

    Args:
        hidden_dim: units per hidden layer.
        device_type: cpu, cuda or mps.
    """
    return 1 if device_type == "cpu" and hidden_dim <= LARGE_HIDDEN_DIM else num_cores()


def compilation_pays(config, device):
    """Whether a whole run on a torch device is faster with compilation, its time included."""
    return device.type == "cpu" and _num_updates(config) >= COMPILE_WORTH and compilation.has_compiler()


def describe_update(config, device):
    """Whether and why updates are compiled, a few words; `config` as `resolve` gives it."""
    if config.compile == "on":
        return f"compiled after {compilation.COMPILE_FROM:,} updates"
    if not config.fast_path:
        return "not compiled (--no-fast_path)"
    if device.type != "cpu":
        return f"not compiled (on {device.type} only with --compile on)"
    if _num_updates(config) < COMPILE_WORTH:
        return f"not compiled (fewer than {COMPILE_WORTH:,} updates)"
    return "not compiled (--compile is off)" if compilation.has_compiler() else "not compiled (no C++ compiler)"


def _num_updates(config):
    return (config.num_train_steps - config.num_seed_steps) * config.updates_per_step
