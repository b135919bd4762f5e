"""The declarations of config.py, and the checks that are made from them."""

import dataclasses
import json
import math
from argparse import ArgumentTypeError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import config as config_module
from config import (
    FLAGS,
    Choice,
    Config,
    Name,
    Number,
    Switch,
    as_json,
    differing_flags,
    distinguishing_flags,
    flag,
    parse_saved,
)

ENV = {"env": "x"}


def saved(**changes):
    """Flags as json.load gives them."""
    return json.loads(json.dumps(as_json(Config(**ENV)) | changes))


def test_what_was_saved_comes_back():
    config = Config(env="cheetah_run", actor_betas=(0.5, 0.9), target_entropy=-3.0, num_threads=2)
    assert parse_saved(json.loads(json.dumps(as_json(config)))) == config


def inside_and_outside(kind):
    """Values that a kind accepts, and values that it must refuse, written from its bounds."""
    if isinstance(kind, Number):
        unit = 1 if kind.kind is int else 1e-3
        low = kind.low if math.isfinite(kind.low) else -1e9
        high = kind.high if math.isfinite(kind.high) else 1e9
        inside = [low + 2 * unit] + [low] * (not kind.open_low) + [high] * (not kind.open_high)
        outside = [math.nan, math.inf, True, "1", None, [1]]
        outside += [low - unit] * math.isfinite(kind.low) + [high + unit] * math.isfinite(kind.high)
        outside += [low] * kind.open_low * math.isfinite(kind.low)
        outside += [high] * kind.open_high * math.isfinite(kind.high)
        return inside, outside + [low + 2.5] * (kind.kind is int)
    if isinstance(kind, Choice):
        return kind.choices, ["maybe", "", 1, None]
    if isinstance(kind, Name):
        return ["abc"], ["", 1, None]
    return [True, False], [1, "true", None]


@pytest.mark.parametrize("name", FLAGS)
def test_saved_values_are_held_to_the_bounds_of_the_command_line(name):
    """A kind's accepted values pass for each flag; what it refuses is refused with the flag's name."""
    field = FLAGS[name]
    inside, outside = inside_and_outside(field.metadata["kind"])
    pair = field.metadata["nargs"]
    for value in inside:
        value = [value, value] if pair else value
        assert as_json(parse_saved(saved(**{name: value}) | (ENV if name != "env" else {})))[name] == value
    for value in outside:
        if value is None and field.default is None and name != "env":
            assert getattr(parse_saved(saved(**{name: None})), name) is None
            continue
        with pytest.raises(ValueError, match=f"^--{name}: "):
            parse_saved(saved() | {name: [value, value] if pair else value})


def test_a_missing_and_an_unknown_flag_are_named():
    values = saved()
    del values["discount"]
    with pytest.raises(ValueError, match="--discount is missing"):
        parse_saved(values)
    with pytest.raises(ValueError, match="--frobnicate is a flag of another version"):
        parse_saved(saved(frobnicate=1))


def test_a_flag_that_is_newer_than_a_run_means_as_before(monkeypatch):
    """The one declaration is all that a new flag needs: older runs load, and may be resumed."""

    @dataclasses.dataclass(frozen=True)
    class Newer(Config):
        momentum: float = flag("SAC", 0.9, Number(float, 0), "a new hyperparameter", before=0.0)
        bounds: tuple = flag("SAC", (1.0, 2.0), Number(float), "a pair", before=(3.0, 4.0), nargs=("LOW", "HIGH"))

    monkeypatch.setattr(config_module, "Config", Newer)
    monkeypatch.setattr(config_module, "FLAGS", {field.name: field for field in dataclasses.fields(Newer)})
    resumed = parse_saved(saved())
    assert (resumed.momentum, resumed.bounds) == (0.0, (3.0, 4.0))
    assert differing_flags(saved(), resumed) == []
    assert differing_flags(saved(), Newer(**ENV)) == [
        "--momentum is saved as 0.0, not 0.9",
        "--bounds is saved as [3.0, 4.0], not [1.0, 2.0]",
    ]
    without = saved()
    del without["discount"]
    assert differing_flags(without, Config(**ENV)) == ["--discount is not saved"]


def test_only_what_makes_a_run_what_it_is_counts_as_different():
    there = saved()
    changed = {"num_train_steps": 5, "device": "cuda", "discount": 0.9, "chunk_size": 3}
    sentences = differing_flags(there, dataclasses.replace(Config(**ENV), **changed))
    assert sentences == ["--chunk_size is saved as 5, not 3", "--discount is saved as 0.99, not 0.9"]


def test_every_declaration_is_complete():
    for name, field in FLAGS.items():
        data = field.metadata
        assert isinstance(data["kind"], Number | Name | Switch), name
        assert data["help"] and data["group"], name
        explains_default = "default" in data["help"]
        assert explains_default == (field.default is None) or name == "env", name


@given(value=st.floats() | st.integers(-10, 10**12))
@settings(max_examples=300, deadline=None)
def test_numbers_from_text_equal_numbers_from_json(value):
    for kind in {field.metadata["kind"] for field in FLAGS.values() if isinstance(field.metadata["kind"], Number)}:
        results = []
        for parse, argument in ((kind, repr(value)), (kind.check, value)):
            try:
                results.append(parse(argument))
            except ArgumentTypeError:
                results.append(None)
        assert results[0] == results[1]


def test_distinguishing_flags():
    assert distinguishing_flags(Config(env="a", compile="on", num_train_steps=7)) == {
        "env": "a",
        "seed": 1,
        "chunk_size": 5,
    }
    other = Config(env="a", seed=3, chunk_size=1, actor_betas=(0.5, 0.9), discount=0.9)
    more = {"discount": 0.9, "actor_betas": [0.5, 0.9]}
    assert distinguishing_flags(other) == {"env": "a", "seed": 3, "chunk_size": 1} | more
