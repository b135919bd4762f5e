"""The choice of a renderer, in processes of their own, and the frames."""

import os
import subprocess
import sys

import numpy as np
import pytest

from envs import make_env

CHOOSE = "import os; from envs import rendering; rendering.choose_renderer(); print(os.environ['MUJOCO_GL'])"


def choose(**variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    result = subprocess.run([sys.executable, "-c", CHOOSE], env=environment | variables, capture_output=True, text=True)
    return result.stdout.strip(), result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_choose_renderer(renderer):
    found, _ = choose()
    assert found in ("egl", "osmesa")
    # A display that is not there: on to what works without one.
    assert choose(DISPLAY=":99")[0] == found
    # What the user asked for is tried, and nothing else.
    assert choose(MUJOCO_GL=found)[0] == found
    assert choose(MUJOCO_GL="glfw") == ("disabled", "")
    assert choose(MUJOCO_GL="nonsense") == ("disabled", "")


@pytest.mark.parametrize("name", ["cheetah_run", "HalfCheetah-v5"])
def test_frames_have_no_shadows_and_the_simulation_does_not_depend_on_them(name, renderer):
    """With shadows and reflections a frame took six times as long in software."""
    plain, rendered = make_env(name), make_env(name, render_size=64)
    before = [env.reset(seed=1)[0] for env in (plain, rendered)]
    model = rendered.unwrapped._env.physics.model if name == "cheetah_run" else rendered.unwrapped.model
    assert not model.light_castshadow.any() and not model.mat_reflectance.any()
    assert model.vis.quality.offsamples == 0 and rendered.render().std() > 5
    after = [env.step(np.full(6, 0.5, np.float32))[0] for env in (plain, rendered)]
    assert np.array_equal(*before) and np.array_equal(*after)
