"""The command line of train.py, parsed in this process."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import Parser, flag_table, parse_train_args
from config import FLAGS, Number
from tests.helpers import ROOT

# What must be refused, by hand; test_config.py does the same for every flag from its bounds.
REFUSED = {
    "num_threads": ["0", "-1", "1.5", "1e10"],
    "num_train_steps": ["0", "-5", "nan", "inf", "many"],
    "num_seed_steps": ["-1", "2000000"],
    "eval_frequency": ["0"],
    "num_eval_episodes": ["0"],
    "seed": ["-1", "0.5", "4294967296", "1e20"],
    "action_repeat": ["0"],
    "chunk_size": ["0", "-3", "2.5", "five"],
    "confidence_threshold": ["-0.1", "1.1", "nan"],
    "confidence_margin": ["-1", "nan", "inf"],
    "windows": ["some"],
    "commit_epsilon": ["-0.1", "1.5"],
    "discount": ["-0.1", "1", "nan"],
    "batch_size": ["0", "2000000", "1e12 --replay_buffer_capacity 1e13"],
    "updates_per_step": ["0", "-1", "nan", "1e308"],
    "replay_buffer_capacity": ["1", "0"],
    "init_temperature": ["0", "-1"],
    "target_entropy": ["nan", "inf"],
    "actor_lr": ["0", "-1e-3", "nan"],
    "actor_betas": ["0.9 1", "-0.1 0.9", "0.9"],
    "critic_tau": ["0", "1.1"],
    "hidden_dim": ["0", "1e6"],
    "hidden_depth": ["0", "1e9"],
    "actor_log_std_bounds": ["2 -5", "0 0", "nan 1"],
    "log_frequency": ["0"],
    "checkpoint_frequency": ["-1", "0.5"],
    "compile": ["maybe"],
    "resume": ["nowhere", ""],
    "video_size": ["15", "33", "1e10"],
    "video_fps": ["0", "0.5", "nan"],
    "experiment": ["a/b", "", "...", ".."],
}


def refusal(capsys, *argv):
    """What a refused command line prints: one line."""
    with pytest.raises(SystemExit) as end:
        parse_train_args(argv)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("name, value", [(n, v) for n, values in REFUSED.items() for v in values])
def test_a_bad_value_is_refused_by_the_name_of_its_flag(capsys, name, value):
    assert f"--{name}" in refusal(capsys, "--env", "x", f"--{name}", *(value.split() or [""]))


@pytest.mark.parametrize(
    "argv, sentence",
    [
        ([], "the following argument is required: --env"),
        (["--env", "x", "--frobnicate", "1"], "unrecognized arguments: --frobnicate 1"),
        (["--env", "x", "--chunk", "3"], "unrecognized arguments: --chunk 3"),  # no abbreviations
        (["--env", "x", "--chunk-size", "3"], "did you mean --chunk_size?"),
        (["--env", "x", "--chunk_sise=3"], "did you mean --chunk_size?"),
        (["--env", "x", "--eval_frequency=--"], "argument --eval_frequency: expected one argument"),
        (["--env", "x", "--chunk_size"], "argument --chunk_size: expected one argument"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, argv, sentence):
    assert sentence in refusal(capsys, *argv)


def test_numbers_may_be_written_as_powers():
    config, _ = parse_train_args(["--env", "x", "--num_train_steps", "2e6", "--critic_lr", "1e-4"])
    assert config.num_train_steps == 2_000_000 and isinstance(config.num_train_steps, int)
    assert config.critic_lr == 1e-4


@pytest.mark.parametrize("text", ["-1e1", "-1.5E+1", "-.5", "-3"])
def test_negative_numbers_are_no_flags(text):
    assert parse_train_args(["--env", "x", "--target_entropy", text])[0].target_entropy == float(text)


def test_pairs_and_switches():
    argv = "--env x --no-save_video --no-learnable_temperature --actor_betas 0.5 0.99 --actor_log_std_bounds -10 2"
    config, _ = parse_train_args(argv.split())
    assert not config.save_video and not config.learnable_temperature
    assert config.actor_betas == (0.5, 0.99) and config.actor_log_std_bounds == (-10, 2)


def test_a_short_run_needs_no_other_flag():
    config, _ = parse_train_args(["--env", "x", "--num_train_steps", "1000"])
    assert (config.num_train_steps, config.num_seed_steps) == (1000, 2500)


NUMBERS = {n: f.metadata["kind"] for n, f in FLAGS.items() if isinstance(f.metadata["kind"], Number)}
SINGLE = sorted(name for name in NUMBERS if not FLAGS[name].metadata["nargs"])


def is_inside(value, kind):
    """Whether a number is in the interval of a `Number`, and whole and even where that is asked."""
    if not math.isfinite(value) or kind.kind is int and value != round(value) or kind.even and value % 2:
        return False
    above = value > kind.low if kind.open_low else value >= kind.low
    return above and (value < kind.high if kind.open_high else value <= kind.high)


@given(names=st.lists(st.sampled_from(SINGLE), unique=True, max_size=4), data=st.data())
@settings(max_examples=300, deadline=None)
def test_300_random_command_lines(names, data):
    """Accepted with just these values, if all are inside their bounds and none contradict; else exit status 2."""
    values = {n: data.draw(st.integers(-5, 10**7) | st.floats() | st.sampled_from([0.0, 0.5, 1.0])) for n in names}
    argv = ["--env", "x", *(f"--{name}={value!r}" for name, value in values.items())]
    value = {name: field.default for name, field in FLAGS.items()} | values
    contradiction = value["batch_size"] > value["replay_buffer_capacity"]
    contradiction |= value["num_train_steps"] < value["num_seed_steps"] != FLAGS["num_seed_steps"].default
    accepted = all(is_inside(v, NUMBERS[n]) for n, v in values.items()) and not contradiction
    try:
        config, _ = parse_train_args(argv)
    except SystemExit as end:
        assert end.code == 2 and not accepted
    else:
        assert accepted
        assert {name: getattr(config, name) for name in values} == values


def test_a_file_that_exists_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "a.json").write_text("precious")
    with pytest.raises(SystemExit):
        Parser(prog="x").refuse_existing([str(tmp_path / "a.json")], "move it")
    assert "a.json exists; move it" in capsys.readouterr().err


def test_the_flag_table_of_the_docs_is_current():
    assert (ROOT / "docs" / "flags.md").read_text() == flag_table() + "\n", "run python cli.py > docs/flags.md"
