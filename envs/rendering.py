"""Choose a renderer of MuJoCo that works on this machine, with or without a display."""

import importlib
import os
import subprocess
import sys

PROBE = """
from dm_control import mujoco
physics = mujoco.Physics.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1"/></worldbody></mujoco>')
assert physics.render(32, 32).any()
"""


def choose_renderer():
    """Set MUJOCO_GL to a backend that works here, or disable rendering. Call it before dm_control is imported.

    If MUJOCO_GL is set, it is the only candidate. Each candidate is tried in a process of its own, because a backend
    that fails can crash its process.
    """
    has_display = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    headless = [] if sys.platform in ("darwin", "win32") else ["egl", "osmesa"]
    candidates = [os.environ.get("MUJOCO_GL")]
    if not candidates[0]:
        candidates = ["glfw", *headless] if has_display else headless
    for backend in candidates:
        environment = os.environ | {"MUJOCO_GL": backend}
        if subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True).returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            # Where Triton is installed, PyTorch's optimizers load it. Its LLVM crashes the process if Mesa's software
            # renderer has loaded another LLVM before. So Triton is loaded here, first.
            importlib.import_module("torch._dynamo")
            return
    disable_rendering()


def simplify(model):
    """Leave shadows, reflections and multisampling out of the frames of a MuJoCo model.

    In software they take five sixths of the time of a frame. The simulation does not depend on them.

    Args:
        model: `mujoco.MjModel`, or dm_control's wrapper of one, of which no frame has been rendered yet.
    """
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    model.vis.quality.offsamples = 0


def disable_rendering():
    """Set MUJOCO_GL so that dm_control does not look for a display. Call it before dm_control is imported."""
    os.environ["MUJOCO_GL"] = "disabled"
