"""The choice of a renderer, in processes of their own."""

import os
import subprocess
import sys

import pytest

CHOOSE = "import os; from envs import rendering; rendering.choose_renderer(); print(os.environ['MUJOCO_GL'])"


def choose(**variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    result = subprocess.run([sys.executable, "-c", CHOOSE], env=environment | variables, capture_output=True, text=True)
    return result.stdout.strip(), result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_choose_renderer(renderer):
    assert choose()[0] in ("egl", "osmesa")
    # A display that is not there: on to what works without one.
    assert choose(DISPLAY=":99")[0] in ("egl", "osmesa")
    # What the user asked for is tried, and nothing else.
    assert choose(MUJOCO_GL=choose()[0])[0] == choose()[0]
    assert choose(MUJOCO_GL="glfw") == ("disabled", "")
    assert choose(MUJOCO_GL="nonsense") == ("disabled", "")
