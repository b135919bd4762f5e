"""Do two versions of this package compute the same numbers?

    python tests/oracle.py record DIR [--checkout PATH]     what the code of a checkout computes
    python tests/oracle.py compare DIR DIR                  bit for bit; exit status 1 where something differs

DIR holds the weights after 100 updates from the same batches, and train.csv, eval.csv and the weights of whole runs,
for h = 1 and h = 5, eager and compiled. Record both on one machine: other processors round differently.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

TIMING = ("duration", "steps_per_second")
TIMING += tuple(f"share_{section}" for section in ("collect", "sample", "update", "evaluate", "checkpoint"))
RUN = "--env cheetah_run --num_train_steps 4500 --num_seed_steps 1000 --eval_frequency 2000 --num_eval_episodes 1"
RUNS = {
    f"h{h}-{mode}": f"{RUN} --chunk_size {h} --compile {compile} --no-save_video --no-log_save_tb --device cpu".split()
    for h in (1, 5)
    for mode, compile in (("eager", "off"), ("compiled", "on"))
}
O, A, B, UPDATES = 17, 6, 128, 100


def batch_tensors(h, seed):
    """The fields of a batch and of its states that plans reached, as plain tensors."""
    g = torch.Generator().manual_seed(seed)
    prefix_length = torch.randint(1, h + 1, (B,), generator=g)
    alive = torch.rand(B, generator=g) > 0.1
    batch = {
        "obs": torch.randn(B, O, generator=g),
        "actions": torch.tanh(torch.randn(B, h, A, generator=g)),
        "prefix_length": prefix_length,
        "reward": torch.randn(B, generator=g),
        "discount": 0.99**prefix_length * alive,
        "next_obs": torch.randn(B, O, generator=g),
    }
    states = [torch.randn(B // 4, O, generator=g), torch.arange(B // 4) % h, torch.randn(B // 4, O, generator=g)]
    return batch, states


def update_weights(h):
    """The agent's state after UPDATES updates on the fast path, by the code that is on sys.path."""
    import replay_buffer
    from agent import SACAgent, fast_path
    from cli import parse_train_args

    config, _ = parse_train_args(["--env", "none", "--chunk_size", str(h)])
    agent = SACAgent(O, A, config, "cpu")
    fast_path.install(agent)
    for seed in range(UPDATES):
        batch, states = batch_tensors(h, seed)
        agent.update(replay_buffer.Batch(**batch, reached=replay_buffer.OpenLoopStates(*states) if h > 1 else None))
    return {
        "actor": agent.actor.state_dict(),
        "critic": agent.critic.state_dict(),
        "critic_target": agent.critic_target.state_dict(),
        "log_alpha": agent.log_alpha.detach(),
    }


def record(directory, checkout):
    """Run everything, two processes at a time."""
    directory.mkdir(parents=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    # The checkout's own oracle: names of classes and fields differ between versions, the numbers fed in do not.
    updates = [sys.executable, str(checkout / "tests" / "oracle.py"), "updates", str(directory.absolute())]
    subprocess.run(updates, check=True, env=environment)
    for h in (1, 5):
        pair = [name for name in RUNS if name.startswith(f"h{h}")]
        processes = []
        for name in pair:
            (directory / name).mkdir()
            command = [sys.executable, str(checkout / "train.py"), *RUNS[name]]
            processes.append(subprocess.Popen(command, cwd=directory / name, env=environment))
        if any([process.wait() for process in processes]):
            sys.exit("oracle.py: error: a run failed")


def rows(path):
    """A CSV file without its timing columns, columns in any order."""
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMING} for row in csv.DictReader(file)]


def same(one, other):
    """Whether two nested structures of plain data and tensors are equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return one == other


def compare(first, second):
    """Print what is equal and what is not; whether all is."""
    results = {}
    for name in ("updates-h1.pt", "updates-h5.pt"):
        there, here = (torch.load(d / name, weights_only=True) for d in (first, second))
        results[name] = same({part: here[part] for part in there}, there)  # an older recording may hold fewer parts
    for name in RUNS:
        (there,), (here,) = (list((d / name / "exp").iterdir()) for d in (first, second))
        for file in ("train.csv", "eval.csv"):
            results[f"{name} {file}"] = len(rows(there / file)) > 1 and rows(there / file) == rows(here / file)
        policies = [torch.load(d / "policy.pt", weights_only=True)["actor"] for d in (there, here)]
        results[f"{name} policy.pt"] = same(*policies)
    print(json.dumps({name: "equal" if equal else "DIFFERS" for name, equal in results.items()}, indent=1))
    return all(results.values())


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("record", "compare", "updates"))
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parent.parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.verb == "record":
        record(args.directories[0], args.checkout.absolute())
    elif args.verb == "updates":  # a process of its own, with the checkout's code
        sys.path.remove(str(Path(__file__).parent))
        for h in (1, 5):
            torch.save(update_weights(h), args.directories[0] / f"updates-h{h}.pt")
    else:
        sys.exit(not compare(*args.directories))


if __name__ == "__main__":
    main()
