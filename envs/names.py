"""Names of environments: DM Control tasks, Gymnasium ids, and module:Id for ids that a module registers."""

import difflib
import importlib
import importlib.metadata
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import gymnasium as gym

from errors import UsageError

MUJOCO_PIN = "3.17.0"  # as in requirements.txt
ROOT = Path(__file__).parent.parent


class EnvError(ValueError):
    """An environment that does not exist or cannot be used; the message is one sentence."""


class CameraError(ValueError):
    """A camera that an environment does not have; the message is one sentence."""


def check_mujoco():
    """Check the major version of mujoco.

    Raises:
        UsageError: dm_control cannot load tasks with it; the message names the pinned version.
    """
    installed = importlib.metadata.version("mujoco")
    if installed.split(".")[0] != MUJOCO_PIN.split(".")[0]:
        raise UsageError(
            f"mujoco {installed} is installed, with which dm_control cannot load tasks; "
            f"install the pinned one: pip install mujoco=={MUJOCO_PIN}"
        )


def import_suite():
    """The module `dm_control.suite`, which takes most of a second to import.

    Raises:
        UsageError: as `check_mujoco`.
    """
    check_mujoco()
    from absl import logging
    from dm_control import suite

    logging.set_verbosity(logging.ERROR)  # dm_control's models use deprecated attributes, which it warns about
    return suite


def dm_control_tasks():
    """{"cheetah_run": ("cheetah", "run"), ...} for every task of the suite."""
    return {f"{domain}_{task}": (domain, task) for domain, task in import_suite().ALL_TASKS}


def is_gymnasium_id(name):
    """Whether a name is module:Id or a registered id. Others may be tasks, or short for an id (`Pendulum`)."""
    return ":" in name or name in gym.registry


def check_name(name):
    """Check as much of a name as is possible without running a custom module.

    Raises:
        EnvError: there is no such task or id (the message names similar ones), or as `check_module`.
    """
    if ":" in name:
        check_module(name)
    elif not is_gymnasium_id(name) and name not in (tasks := dm_control_tasks()):
        try:
            gym.spec(name)
        except gym.error.DeprecatedEnv as error:
            raise EnvError(f"{name} cannot be made: {error}") from error
        except gym.error.Error as error:
            raise EnvError(f"there is no DM Control task or Gymnasium id {name!r}{_hint(name, tasks)}") from error


def check_module(name):
    """Check where the module of a module:Id would be imported from, without importing it.

    Run directories may come from other people, and their args.json names the module: importing a module from a run
    directory would execute their code. So files below exp/, or below any folder with an args.json, are refused.

    Args:
        name: name of an environment; a name without a module is accepted.

    Raises:
        EnvError: the name is malformed, the module cannot be found, or it is in a run directory.
    """
    if ":" not in name:
        return
    module, _, env_id = name.partition(":")
    if not env_id or ":" in env_id or not all(part.isidentifier() for part in module.split(".")):
        raise EnvError(f"{name!r} is neither a task, nor a Gymnasium id, nor module:Id")
    locations = _locate(module)
    exp = {Path(os.path.abspath("exp")), Path(os.path.realpath("exp"))}
    for location in locations:
        for path in {Path(os.path.abspath(location)), Path(os.path.realpath(location))}:
            folders = (path, *path.parents)
            is_below = bool(exp & set(folders))
            if module.split(".")[0] == "exp" or is_below or any((folder / "args.json").exists() for folder in folders):
                raise EnvError(f"{module} is {path}, in a run directory; code in run directories is not run")
    if not locations:
        raise EnvError(f"there is no module {module!r}: it must be installed, or lie in {ROOT} or in PYTHONPATH")


def import_module(name):
    """Import the module of a module:Id.

    Returns:
        the Id; or the name itself if it has no module.

    Raises:
        EnvError: the import fails (the message has the module's error and its line), or registers no such Id.
    """
    module, colon, env_id = name.rpartition(":")
    if not colon:
        return name
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        place = f"{error.filename}, line {error.lineno}" if isinstance(error, SyntaxError) else _place(error)
        raise EnvError(f"importing {module} fails: {type(error).__name__}: {error} ({place})") from error
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        raise EnvError(f"the module {module} registers no Gymnasium id {env_id!r}{_hint(env_id)}") from error
    return env_id


def _hint(name, tasks=()):
    near = difflib.get_close_matches(name, [*tasks, *gym.registry], n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _place(error):
    frame = error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename}, line {frame.tb_lineno}"


def _locate(module):
    """Files and folders that importing a module would read, its packages first; [] if it cannot be found.

    Unlike `importlib.util.find_spec`, this imports no parent packages.
    """
    first, *others = module.split(".")
    spec = next(filter(None, (finder.find_spec(first, None) for finder in sys.meta_path)), None)
    locations = _read_by(spec)
    for part in others:
        if spec is None or spec.submodule_search_locations is None:
            return []
        # Only the last part of the name: with the full name, a package without __init__.py would be imported.
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
        locations += _read_by(spec)
    return locations if spec else []


def _read_by(spec):
    if spec is None:
        return []
    # A built-in module has no file.
    return [spec.origin] if spec.has_location else list(spec.submodule_search_locations or [ROOT])
