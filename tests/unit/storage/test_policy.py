import io
import pickle

import pytest
import torch

from errors import UsageError
from storage.policy import load_policy, save_policy

ACTOR = {"weight": torch.arange(6.0).reshape(2, 3)}
CONTENT = {"args": {"env": "x", "num_train_steps": 90}, "obs_size": 3, "action_size": 2, "step": 80, "actor": ACTOR}


def test_what_was_saved_comes_back(tmp_path):
    save_policy(tmp_path, ACTOR, {"env": "x", "betas": (0.9, 0.99)}, obs_size=3, action_size=2, step=80)
    policy = load_policy(str(tmp_path))
    assert policy[:4] == ({"env": "x", "betas": (0.9, 0.99)}, 3, 2, 80)
    assert torch.equal(policy.actor["weight"], ACTOR["weight"])


def test_a_run_without_a_policy(tmp_path):
    assert load_policy(str(tmp_path)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "text"},
        {"actor": {"weight": 1.0}},
        {"actor": {1: torch.zeros(1)}},
        {"args": [1]},
        {"step": "80"},
        {"step": -1},
        {"obs_size": 3.0},
        {"action_size": None},
    ],
)
def test_a_policy_of_other_types_is_refused(tmp_path, change):
    torch.save(CONTENT | change, tmp_path / "policy.pt")
    with pytest.raises(UsageError, match="policy.pt is damaged, or not a policy"):
        load_policy(str(tmp_path))


def text(stream):
    stream.write(b"no pickle at all")


def bare_pickle(stream):
    pickle.dump(CONTENT | {"actor": "text"}, stream, protocol=4)


@pytest.mark.parametrize("write", [text, bare_pickle, lambda s: torch.save([1, 2], s), lambda s: torch.save("args", s)])
def test_another_file_is_refused_in_one_sentence(tmp_path, write, recwarn, capfd):
    stream = io.BytesIO()
    write(stream)
    (tmp_path / "policy.pt").write_bytes(stream.getvalue())
    with pytest.raises(UsageError, match="policy.pt is damaged, or not a policy"):
        load_policy(str(tmp_path))
    assert not recwarn.list and capfd.readouterr() == ("", "")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "policy.pt").mkdir()
    with pytest.raises(UsageError, match="policy.pt cannot be read: Is a directory"):
        load_policy(str(tmp_path))
