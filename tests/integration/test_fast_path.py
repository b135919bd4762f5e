"""The fast path against the plain reference: eager and compiled, from one state, also after a resume."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import warnings

import pytest
import torch

from agent import compilation, fast_path
from agent.compilation import has_compiler
from tests.helpers import ROOT, SMALL

COMPILE_FROM = 11


def skip_without_compiler(compile):
    if compile and not has_compiler():
        pytest.skip("there is no C++ compiler")


@pytest.fixture
def compiled_calls(monkeypatch):
    """Counts the calls of compiled functions."""
    torch._dynamo.reset()  # it keeps at most a few versions of a function
    calls, compiled = [], compilation.compiled

    def counting(*args):
        fast = compiled(*args)
        return lambda *args: calls.append(1) or fast(*args)

    monkeypatch.setattr(compilation, "compiled", counting)
    return calls


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("h, normalize", [(1, "--no-normalize_observations"), (5, "--normalize_observations")])
def test_100_fast_updates_equal_the_references(
    make_agent, make_batches, assert_same_networks, compiled_calls, h, normalize, compile
):
    skip_without_compiler(compile)
    reference, fast, untrained = (make_agent(4, 2, "--chunk_size", str(h), normalize) for _ in range(3))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training with")  # nothing was given up
        fast_path.install(fast, COMPILE_FROM if compile else None)
        for i, batch in enumerate(make_batches(h, 100), start=1):
            metrics, other = reference.update(batch), fast.update(batch)
            assert len(compiled_calls) == (max(0, i + 1 - COMPILE_FROM) if compile else 0)
            assert list(metrics) == list(other)
            for name, value in metrics.items():
                torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert_same_networks(fast, reference, untrained)
    torch.testing.assert_close(fast.log_alpha, reference.log_alpha)


def observe_and_update(agent, batch):
    """The metrics of an update after other statistics of observations."""
    agent.observe(batch.obs[0].numpy() * 3 + 1)
    return agent.update(batch)


def test_compiled_code_sees_what_changes_between_updates(make_agent, make_batches, assert_same_networks):
    """Which networks an update is of, and the statistics of observations; not another agent's shapes."""
    skip_without_compiler(True)
    other = make_agent(4, 2, "--chunk_size", "2")
    fast_path.install(other, 1)
    other.update(make_batches(2, 1)[0])
    flags = "--chunk_size 3 --normalize_observations --actor_update_frequency 2 --critic_target_update_frequency 3"
    reference, fast, untrained = (make_agent(4, 2, *flags.split()) for _ in range(3))
    fast_path.install(fast, 1)
    for batch in make_batches(3, 30):
        metrics, fast_metrics = observe_and_update(reference, batch), observe_and_update(fast, batch)
        assert list(metrics) == list(fast_metrics)
        for name, value in metrics.items():
            torch.testing.assert_close(fast_metrics[name], value, rtol=1e-3, atol=1e-4, equal_nan=True)
    assert_same_networks(fast, reference, untrained)


@pytest.mark.parametrize("compile", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("stopped_at", [4, 10, 15])
def test_a_resumed_agent_goes_on_bit_for_bit(make_agent, make_batches, compiled_calls, compile, stopped_at):
    """Before the compiled code takes over, just before, and after."""
    skip_without_compiler(compile)
    compile_from = COMPILE_FROM if compile else None
    batches = make_batches(3, 20)
    whole, first, second = (make_agent(4, 2, "--chunk_size", "3") for _ in range(3))
    fast_path.install(whole, compile_from), fast_path.install(first, compile_from)
    for batch in batches:
        observe_and_update(whole, batch)
    for batch in batches[:stopped_at]:
        observe_and_update(first, batch)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    fast_path.install(second, compile_from)
    compiled_calls.clear()
    for batch in batches[stopped_at:]:
        observe_and_update(second, batch)
    assert len(compiled_calls) == (21 - max(COMPILE_FROM, stopped_at + 1) if compile else 0)
    assert torch.equal(second.log_alpha, whole.log_alpha)
    for name in ("actor", "critic", "critic_target"):
        networks = (getattr(agent, name).state_dict().values() for agent in (second, whole))
        assert all(torch.equal(p, q) for p, q in zip(*networks, strict=True))


def test_the_reference_and_the_fast_path_read_each_others_state(make_agent, make_batches):
    batches = make_batches(3, 4)
    for install_first in (True, False):
        one, other = (make_agent(4, 2, "--chunk_size", "3") for _ in range(2))
        fast_path.install(one if install_first else other)
        for batch in batches[:2]:
            one.update(batch)
        other.load_state_dict(copy.deepcopy(one.state_dict()))
        for batch in batches[2:]:
            one.update(batch), other.update(batch)
        for p, q in zip(one.critic.parameters(), other.critic.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_hyperparameters_are_the_configurations(make_agent, make_batches):
    """A state does not carry learning rates, nor how an optimizer computes."""
    one, other = (
        make_agent(4, 2),
        make_agent(4, 2, "--actor_lr", "0.01", "--critic_lr", "0.02", "--alpha_betas", "0.5", "0.9"),
    )
    fast_path.install(one)
    one.update(make_batches(5, 1)[0])
    other.load_state_dict(one.state_dict())
    groups = {name: optimizer.param_groups[0] for name, optimizer in other.optimizers.items()}
    assert groups["actor"]["lr"] == 0.01 and groups["temperature"]["betas"] == (0.5, 0.9)
    assert groups["critic"]["lr"] == 0.02 and not groups["critic"]["fused"]
    assert len(other.optimizers["critic"].state) == 12


def test_what_cannot_be_compiled_stays_eager(make_agent, make_batches):
    from torch._inductor import config

    eager, fallback = (make_agent(4, 2, "--chunk_size", "1") for _ in range(2))
    reasons = []
    fast_path.install(eager), fast_path.install(fallback, compile_from=1, on_failure=reasons.append)
    batches = make_batches(1, 5)
    torch._dynamo.reset()  # of what earlier tests compiled
    with config.patch({"cpp.cxx": ("/nonexistent/c++",), "force_disable_caches": True}):
        assert not has_compiler()
        with pytest.warns(UserWarning, match="without compiled code"):
            fallback.update(batches[0])
        eager.update(batches[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "training without")  # it is said once
            for batch in batches[1:]:
                eager.update(batch), fallback.update(batch)
    assert len(reasons) == 1 and "/nonexistent/c++" in reasons[0]
    for p, q in zip(eager.actor.parameters(), fallback.actor.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX signals")
def test_ctrl_c_does_not_reach_the_compiler(make_agent, make_batches, monkeypatch):
    """A process that the compilation starts sends itself what Ctrl-C sends."""
    outputs = []

    def starting_a_process(function, *_):
        def call(*args):
            outputs.append(subprocess.run(["sh", "-c", "kill -INT $$; echo alive"], capture_output=True, text=True))
            return function(*args)

        return call

    monkeypatch.setattr(compilation, "compiled", starting_a_process)
    agent = make_agent(4, 2)
    fast_path.install(agent, compile_from=1)
    agent.update(*make_batches(5, 1))
    assert [output.stdout for output in outputs] == ["alive\n"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_run_whose_update_does_not_compile_says_so_in_args_json(tmp_path):
    """The compiler answers and fails later: the run goes on with one warning."""
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase "$1" in -v|--version) echo g++ 12.0;; *) exit 1;; esac\n')
    compiler.chmod(0o755)
    flags = "--env Pendulum-v1 --chunk_size 1 --compile on --num_seed_steps 0 --num_train_steps 1001".split()
    flags += ["--num_eval_episodes", "1"]
    # Not a fork: CXX is read when PyTorch is imported.
    result = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *flags, *SMALL],
        cwd=tmp_path,
        env=os.environ | {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch("warning: training without compiled code: .*\n", result.stderr)
    (path,) = tmp_path.glob("exp/*/args.json")
    record = json.loads(path.read_text())
    assert record["args"]["compile"] == "on" and record["update"].startswith("not compiled (")
