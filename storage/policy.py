"""policy.pt: the actor of a finished run, with what is needed to play it."""

import os
from typing import NamedTuple

import torch

from errors import UsageError
from storage import plain_data
from storage.files import write_atomically

NAME = "policy.pt"


class Policy(NamedTuple):
    """The content of policy.pt."""

    flags: dict  # {name: value}, flags of train.py
    obs_size: int  # O
    action_size: int  # A
    step: int  # steps of training
    actor: dict  # {name: tensor}, the actor's state_dict


def save_policy(run_dir, actor, flags, obs_size, action_size, step):
    """Write policy.pt of a run; arguments as in `Policy`.

    Raises:
        RunError: the file cannot be written.
    """
    # The key is "args" because older files have it.
    content = {"args": flags, "obs_size": obs_size, "action_size": action_size, "step": step, "actor": actor}
    write_atomically(os.path.join(run_dir, NAME), plain_data.to_bytes(content))


def load_policy(run_dir):
    """The `Policy` of a run, or None if there is no policy.pt.

    Raises:
        UsageError: policy.pt cannot be read, or is not a policy.
    """
    path = os.path.join(run_dir, NAME)
    try:
        with open(path, "rb") as file:
            content = plain_data.from_bytes(file.read())
        flags, actor = content["args"], content["actor"]
        sizes = content["obs_size"], content["action_size"]
        step = content["step"]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(f"{path} is damaged, or not a policy") from error
    policy = Policy(flags, *sizes, step, actor)
    if not _is_policy(policy):
        raise UsageError(f"{path} is damaged, or not a policy")
    return policy


def _is_policy(policy):
    numbers = policy.obs_size, policy.action_size, policy.step
    return (
        all(type(number) is int and number >= 0 for number in numbers)
        and isinstance(policy.flags, dict)
        and isinstance(policy.actor, dict)
        and all(isinstance(name, str) for name in (*policy.flags, *policy.actor))
        and all(isinstance(weight, torch.Tensor) for weight in policy.actor.values())
    )
