"""Time of each part of a training step: act, environment, observe, add, sample, update, log.

Runs train.py's own loop with a stopwatch around each part. Seed steps, updates before compilation, evaluations and
videos are excluded.
"""

import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, chdir
from unittest import mock

from cli import Parser
from errors import UsageError, report_errors
from storage.files import check_writable, json_bytes, write_atomically

SEED_STEPS, WARM_UP, STEPS = 1000, 1100, 3000
PARTS = ("act", "environment", "observe", "add", "sample", "update", "log")


class MethodTimes:
    """Seconds spent in wrapped methods, by part; calls nested in another wrapped method are not counted twice."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self._running = False

    def wrapped(self, function, part):
        """The function, with its time added to that of a part."""

        def timed(*args, **kwargs):
            if self._running:
                return function(*args, **kwargs)
            self._running = True
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - started
                self._running = False

        return timed


def timed_methods():
    """(class, name of the method, part of the step) of what is timed in a training loop."""
    from agent import SACAgent
    from agent.chunking import ChunkExecutor
    from envs import DMControlEnv
    from logger import Logger
    from replay_buffer import ReplayBuffer

    return [
        (ChunkExecutor, "__call__", "act"),
        (DMControlEnv, "step", "environment"),
        (DMControlEnv, "reset", "environment"),
        (SACAgent, "observe", "observe"),
        (ReplayBuffer, "add", "add"),
        (ReplayBuffer, "sample", "sample"),
        (SACAgent, "update", "update"),
        *((Logger, name, "log") for name in ("step", "record_update", "log_train", "log_eval")),
    ]


def measure(task, flags):
    """Microseconds per step of each part.

    Args:
        task: a DM Control task.
        flags: further flags of train.py.

    Raises:
        UsageError: the flags name another task, or ask for too few updates.
    """
    import torch

    import train
    from cli import parse_train_args
    from launch.machine import resolve

    command = f"--env {task} --num_train_steps {SEED_STEPS + WARM_UP + STEPS} --num_seed_steps {SEED_STEPS}"
    command += " --no-save_video --compile on"
    config = resolve(parse_train_args([*command.split(), *flags])[0])
    if config.env != task:
        raise UsageError("argument --env: give --tasks instead")
    if (STEPS + WARM_UP) * config.updates_per_step <= WARM_UP:
        raise UsageError(f"argument --updates_per_step: {config.updates_per_step} leaves no updates to measure")
    torch.set_num_threads(config.num_threads)
    times, started = MethodTimes(), []
    with ExitStack() as stack:
        for owner, name, part in timed_methods():
            method = times.wrapped(getattr(owner, name), part)
            stack.enter_context(mock.patch.object(owner, name, method))
        stack.enter_context(mock.patch.object(train.Workspace, "evaluate", lambda workspace: None))
        update = train.SACAgent.update

        def start(agent, batch):
            if agent.num_updates == WARM_UP:
                times.seconds.clear()
                started.append(time.perf_counter())
            return update(agent, batch)

        stack.enter_context(mock.patch.object(train.SACAgent, "update", start))
        train.Workspace(config).train()
        total = time.perf_counter() - started[0]
    steps = STEPS + WARM_UP - WARM_UP / config.updates_per_step  # the clock starts at an update, not at a step
    result = {part: 1e6 * times.seconds[part] / steps for part in PARTS}
    return result | {"other": 1e6 * total / steps - sum(result.values())}


def main():
    """The command line; every error is one sentence."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["cheetah_run", "humanoid_run"], help="DM Control tasks")
    parser.add_argument("--output", help="JSON file to write (default: none)")
    args, flags = parser.parse_known_args()
    with report_errors():
        if args.output:
            parser.refuse_existing([args.output], "move it")
            check_writable(args.output)
        run(args, flags)


def run(args, flags):
    """Measure each task, print a table and write the JSON."""
    record = {}
    for task in args.tasks:
        with tempfile.TemporaryDirectory() as scratch, chdir(scratch):  # for the run directories
            record[task] = measure(task, flags)
    print(f"\nmicroseconds per step {' '.join(flags)}\n{'':14}" + "".join(f"{part:>12}" for part in (*PARTS, "other")))
    for task, parts in record.items():
        print(f"{task:14}" + "".join(f"{value:12.0f}" for value in parts.values()))
        overhead = sum(parts[part] for part in ("act", "observe", "add", "sample", "log"))
        share = overhead / (sum(parts.values()) - parts["environment"])
        print(f"{'':14}act + observe + add + sample + log: {share:.1%} of a step without the environment")
    if args.output:
        write_atomically(args.output, json_bytes(record))


if __name__ == "__main__":
    main()
