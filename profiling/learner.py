"""Time of one SAC update, ours against other packages and against the matrix products alone: `make bench`.

Each contestant is a process of its own with one thread on one core. They take turns, round after round, so that a
noisy machine slows them all; medians over rounds. CPU time is the steadier number on a shared machine.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cli import Parser
from config import POSITIVE_INT
from errors import report_errors
from storage.files import check_writable, json_bytes, write_atomically

ROOT = Path(__file__).parent.parent
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
# width, batch size, updates per round
SIZES = {"256": (256, 256, 30), "1024": (1024, 1024, 2)}
# label: (name, flags, whether it is a peer)
CONTESTANTS = {
    "matrix products": ("matmul_bound", [], False),
    "ours, h = 1": ("ours", ["--compile"], False),
    "ours, h = 1, LayerNorm": ("ours", ["--compile", "--layer_norm"], False),
    "ours, h = 5": ("ours", ["--compile", "--h", "5"], False),
    "ours, default (h = 5, LayerNorm)": ("ours", ["--compile", "--h", "5", "--layer_norm"], False),
    "ours, h = 10": ("ours", ["--compile", "--h", "10"], False),
    "ours, h = 16": ("ours", ["--compile", "--h", "16"], False),
    "ours, h = 1, eager": ("ours", [], False),
    "ours, h = 1, LayerNorm, eager": ("ours", ["--layer_norm"], False),
    "ours, h = 5, eager": ("ours", ["--h", "5"], False),
    "ours, default, eager": ("ours", ["--h", "5", "--layer_norm"], False),
    "ours, h = 1, reference path": ("ours", ["--reference"], False),
    "ours, default, reference path": ("ours", ["--reference", "--h", "5", "--layer_norm"], False),
    "stable-baselines3": ("stable-baselines3", [], True),
    "sbx (JAX)": ("sbx", [], True),
    "sbx (JAX), LayerNorm": ("sbx", ["--layer_norm"], True),
    "torchrl": ("torchrl", [], True),
    "torchrl, compiled": ("torchrl", ["--compile"], True),
}


def start(label, width, batch_size, updates, stderr):
    """The contestant's process and its announcement, or None and what went wrong; stderr: the file for its errors."""
    name, flags, is_peer = CONTESTANTS[label]
    if is_peer and not PEERS_PYTHON.exists():
        return None, {"failed": "not installed: make .venv-bench/installed"}
    python = PEERS_PYTHON if is_peer else sys.executable
    sizes = ["--width", width, "--batch_size", batch_size, "--warmup", updates]
    command = [python, "-m", "profiling.contestant", name, *sizes, *flags]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=os.environ | ONE_THREAD,
        cwd=ROOT,
    )
    for line in process.stdout:
        if line.startswith('{"package"'):
            return process, json.loads(line)
    return None, failure(process, stderr)


def failure(process, stderr):
    """What went wrong in a process that has closed its output."""
    status = process.wait()
    stderr.seek(0)
    last_line = (stderr.read().strip().splitlines() or ["no message"])[-1]
    return {"failed": f"exit status {status}: {last_line}"}


def ask(process, updates):
    """The seconds of a number of updates, as the contestant answers; None if it has ended."""
    try:
        process.stdin.write(f"{updates}\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    answer = process.stdout.readline()
    return json.loads(answer) if answer else None


def measure(size, labels, rounds):
    """{label: seconds per update, wall and CPU, medians over rounds}."""
    width, batch_size, updates = SIZES[size]
    running, results = {}, {}
    with ExitStack() as stack:
        errors = {label: stack.enter_context(tempfile.TemporaryFile("w+")) for label in labels}
        for label in labels:
            process, results[label] = start(label, width, batch_size, updates, errors[label])
            if process:
                running[label] = process
        samples = {label: [] for label in running}
        for _ in range(rounds):
            for label, process in list(running.items()):
                if answer := ask(process, updates):
                    samples[label].append(answer)
                else:
                    results[label] = failure(running.pop(label), errors[label])
    for label, process in running.items():
        process.stdin.close()
        process.wait()
        for clock in ("wall", "cpu"):
            results[label][f"{clock}_ms"] = 1e3 * statistics.median(s[clock] for s in samples[label]) / updates
    return results


def table(results):
    """Milliseconds per update, and ratios of CPU time to the matrix products and to sbx without LayerNorm."""
    lines = [f"{'':32} {'wall ms':>8} {'CPU ms':>8} {'/ products':>10} {'/ sbx':>8} {'start s':>8}"]
    bases = [results.get(label, {}).get("cpu_ms", float("nan")) for label in ("matrix products", "sbx (JAX)")]
    for label, result in results.items():
        if "failed" in result:
            lines.append(f"{label:32} {result['failed']}")
            continue
        wall, cpu = result["wall_ms"], result["cpu_ms"]
        to_products, to_sbx = (cpu / base for base in bases)
        lines.append(f"{label:32} {wall:8.2f} {cpu:8.2f} {to_products:10.2f} {to_sbx:8.2f} {result['start_s']:8.1f}")
    return "\n".join(lines)


def main():
    """The command line; every error is one sentence."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="units per layer (default: both)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="contestants (default: all)"
    )
    parser.add_argument("--rounds", type=POSITIVE_INT, default=9, help="rounds (default: 9)")
    parser.add_argument("--output", help="JSON file to write (default: none)")
    args = parser.parse_args()
    with report_errors():
        if args.output:
            parser.refuse_existing([args.output], "move it")
            check_writable(args.output)
        run(args)


def run(args):
    """Measure, print the tables and write the JSON."""
    record = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "rounds": args.rounds}
    for size in args.sizes:
        width, batch_size, _ = SIZES[size]
        record[size] = measure(size, args.only, args.rounds)
        print(f"\n{width} units, batch {batch_size}, O = 17, A = 6, one thread\n{table(record[size])}", flush=True)
    if args.output:
        write_atomically(args.output, json_bytes(record))


if __name__ == "__main__":
    main()
