"""What a configuration becomes on this machine."""

import torch

from agent import compilation
from cli import parse_train_args
from launch.machine import compilation_pays


def test_auto_compiles_long_runs_on_a_cpu_with_a_compiler(monkeypatch):
    def pays(device, compiler, *flags):
        monkeypatch.setattr(compilation, "has_compiler", lambda: compiler)
        return compilation_pays(parse_train_args(["--env", "x", *flags])[0], torch.device(device))

    long, short = ["--num_train_steps", "32500"], ["--num_train_steps", "32499"]  # 2500 of them without updates
    assert pays("cpu", True, *long) and not pays("cpu", True, *short)
    assert pays("cpu", True, *short, "--updates_per_step", "2")
    assert not pays("cpu", False, *long) and not pays("cuda", True, *long)
