"""What a configuration becomes on this machine."""

import pytest
import torch

from agent import compilation, onednn
from cli import parse_train_args
from errors import UsageError
from launch import machine
from launch.machine import compilation_pays, resolve


def test_auto_compiles_long_runs_on_a_cpu_with_a_compiler(monkeypatch):
    def pays(device, compiler, *flags):
        monkeypatch.setattr(compilation, "has_compiler", lambda: compiler)
        return compilation_pays(parse_train_args(["--env", "x", *flags])[0], torch.device(device))

    long, short = ["--num_train_steps", "32500"], ["--num_train_steps", "32499"]  # 2500 of them without updates
    assert pays("cpu", True, *long) and not pays("cpu", True, *short)
    assert pays("cpu", True, *short, "--updates_per_step", "2")
    assert not pays("cpu", False, *long) and not pays("cuda", True, *long)


@pytest.mark.parametrize("kernel, chosen", [("auto", "torch"), ("torch", "torch"), ("onednn", None)])
def test_products_that_do_not_work_here(monkeypatch, kernel, chosen):
    monkeypatch.setattr(onednn, "is_faster", lambda: True)
    monkeypatch.setattr(onednn, "problem", lambda: "no such operator")
    config = parse_train_args(["--env", "x", "--linear_kernel", kernel])[0]
    if chosen:
        assert resolve(config).linear_kernel == chosen
        return
    with pytest.raises(UsageError, match="argument --linear_kernel: .* cannot be used here: no such operator"):
        resolve(config)


def test_one_dnn_is_for_a_cpu(monkeypatch):
    monkeypatch.setattr(onednn, "problem", lambda: None)
    config = parse_train_args(["--env", "x", "--linear_kernel", "onednn"])[0]
    assert resolve(config).linear_kernel == "onednn"
    monkeypatch.setattr(machine, "choose_device", lambda device: torch.device("cuda"))
    assert resolve(config).linear_kernel == "torch"
