"""A real TensorBoard in a real browser."""

import argparse
import os
import shutil
import subprocess
import sys

import imageio.v2 as imageio
import pytest

from analysis import tensorboard_pages
from errors import UsageError
from tests.helpers import ROOT, run_dir

needs_browser = pytest.mark.skipif(not any(map(shutil.which, tensorboard_pages.BROWSERS)), reason="no Chromium here")


def command(*flags, **environment):
    script = [sys.executable, "-m", "analysis.tensorboard_pages", *map(str, flags)]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=600, env=os.environ | environment)


@needs_browser
def test_screenshots_of_a_run(tmp_path):
    flags = ["--env", "tests.envs.scripted:Scripted-v0", "--num_seed_steps", 20, "--hidden_dim", 32, "--no-save_video"]
    flags += ["--num_train_steps", 60, "--eval_frequency", 20, "--batch_size", 16, "--log_frequency", 1]
    result = command(run_dir(tmp_path, *flags), "--output", tmp_path / "a")
    assert result.returncode == 0, result.stderr
    for name, has_curves in (("a", True), ("a-histograms", True), ("a-hparams", False)):
        page = imageio.imread(tmp_path / f"{name}.png")[170:, 340:, :3].astype(int)  # beside and below all controls
        colourful = (page.max(-1) - page.min(-1) > 80).sum()
        assert (colourful > 4000) == has_curves, name  # curves and areas; icons alone are 2500
        assert (page.max(-1) < 120).sum() > 300, name  # text


@needs_browser
def test_an_empty_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard_pages, "LOAD_SECONDS", 10)
    with pytest.raises(UsageError, match="has no scalars and no histograms and no hparams for TensorBoard"):
        tensorboard_pages.run(argparse.Namespace(log_dir=str(tmp_path), output=str(tmp_path / "a")))
    assert os.listdir(tmp_path) == []


def test_no_browser(tmp_path):
    result = command(tmp_path, "--output", tmp_path / "a", PATH=str(tmp_path))
    assert result.returncode == 2 and result.stdout == "" and os.listdir(tmp_path) == []
    assert result.stderr.count("\n") == 1 and "apt-get install chromium" in result.stderr


def test_nothing_is_replaced(tmp_path):
    (tmp_path / "a-hparams.png").write_text("precious")
    result = command(tmp_path, "--output", tmp_path / "a")
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "a-hparams.png exists" in result.stderr
    assert (tmp_path / "a-hparams.png").read_text() == "precious"
