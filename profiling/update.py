"""Where the time of one update of the default agent goes, eager and compiled: `python -m profiling.update`.

Observations are not normalised.

Operations by PyTorch's profiler, which itself costs about a microsecond per operation. Sampling and whole updates are
CPU time without it; what the operations leave of an update is Python and dispatch, and in compiled code the matrix
products, which C++ calls past the profiler. One thread.
"""

import re
import statistics
import time
from collections import Counter, defaultdict

from cli import Parser
from config import POSITIVE_INT

REPEATS = 50
# The first pattern that is found in an operation's name counts. Compiled kernels are named after what they fuse.
PARTS = {
    "matrix products": r"^aten::.*(mm|linear)$",
    "LayerNorm, fused with neighbours": r"layer_norm",
    "optimizers and target": r"Optimizer|adam|lerp|_foreach",
    "random numbers": r"::(normal_|random_|randn|randint)",
    "element-wise and other": r"^aten::|cpp_fused",
}


def part_of(name):
    """The part that an operation counts for; None for Python's."""
    return next((part for part, pattern in PARTS.items() if re.search(pattern, name)), None)


def cpu_ms(function):
    """Median CPU milliseconds per call."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    return 1e3 * statistics.median(seconds)


def operations_ms(update):
    """{part: milliseconds per call}. The profiler has wall time alone: medians per operation shed interruptions."""
    from torch.profiler import ProfilerActivity, profile

    samples = defaultdict(list)  # (name, how many of that name before): microseconds, one for each call
    for _ in range(REPEATS):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            update()
        before = Counter()
        for event in profiler.events():
            samples[event.name, before[event.name]].append(event.self_cpu_time_total)
            before[event.name] += 1
    parts = dict.fromkeys(PARTS, 0.0)
    for (name, _), values in samples.items():
        if part := part_of(name):
            parts[part] += statistics.median(values) / 1e3
    return parts


def measure(width, batch_size, h, compile):
    """{part: milliseconds per update}."""
    from profiling.contestant import agent_and_buffer

    agent, buffer = agent_and_buffer(width, h=h, layer_norm=True, reference=False, compile=compile)
    batch = buffer.sample(batch_size)
    for _ in range(10):
        agent.update(batch)
    total, parts = cpu_ms(lambda: agent.update(batch)), operations_ms(lambda: agent.update(batch))
    rest = {"Python, dispatch; compiled: and products": total - sum(parts.values())}
    return parts | rest | {"sampling": cpu_ms(lambda: buffer.sample(batch_size))}


def main():
    """Measure both paths and print the table."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--h", type=POSITIVE_INT, default=5, help="actions per chunk (default: 5)")
    parser.add_argument("--width", type=POSITIVE_INT, default=256, help="units per layer (default: 256)")
    parser.add_argument("--batch_size", type=POSITIVE_INT, default=256, help="windows per batch (default: 256)")
    args = parser.parse_args()
    import torch._inductor.config

    torch._inductor.config.cpp.enable_kernel_profile = True  # compiled kernels show up by name
    results = [measure(args.width, args.batch_size, args.h, compile) for compile in (False, True)]
    print(f"{'ms per update':42}{'eager':>15}{'compiled':>15}")
    for part in [*results[0], "sum"]:
        totals = [sum(result.values()) for result in results]
        values = [result.get(part, total) for result, total in zip(results, totals, strict=True)]
        cells = (f"{value:9.2f}{value / total:6.0%}" for value, total in zip(values, totals, strict=True))
        print(f"{part:42}" + "".join(cells))


if __name__ == "__main__":
    main()
