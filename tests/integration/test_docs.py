"""The commands of README and docs, in their order in one folder, training shortened by appended flags."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.forked import run_script
from tests.helpers import ROOT, TIMING, train

PAGES = ["README.md", "docs/runs.md", "docs/evaluation.md", "docs/clusters.md"]
SHORT = "--num_train_steps 300 --num_seed_steps 100 --eval_frequency 300 --num_eval_episodes 1 --action_repeat 25"
SHORT += " --hidden_dim 16 --batch_size 16 --replay_buffer_capacity 1000 --no-save_video"
SHORTER = {  # appended by what the command contains, the first that fits; None leaves it out
    "--ray": None,  # a cluster; test_ray.py has one
    "tensorboard": None,  # serves until it is stopped
    "--resume exp/RUN --num_train_steps": "--num_train_steps 400",
    "--resume auto": SHORT,
    "--resume": "",
    "--help": "",
    "train.py": SHORT,
    "--sweep": "--episodes 1",
    "--calibration": "--episodes 2 --pairs 10 --horizon 5",
    "--bias": "--episodes 2 --states 4 --horizon 5",
    "--video": "--episodes 1 --video_size 64 --video_fps 2",
    "evaluate.py": "--episodes 1",
    "plot.py": "",
    "benchmark.py": "--seeds 1 --envs Pendulum-v1 --common "
    "'num_train_steps=200 num_seed_steps=100 hidden_dim=16 batch_size=16 num_eval_episodes=1 save_video=false'",
}


def commands():
    """(page, command) of each line of a code block that starts with python or tensorboard, continued lines joined."""
    for page in PAGES:
        text = (ROOT / page).read_text().replace("\\\n", " ")
        for line in re.findall(r"^    ((?:python|tensorboard) .*)$", text, re.MULTILINE):
            yield page, " ".join(line.partition(" #")[0].split())


def shortened(command):
    """The command with appended flags, or None if it is not run here."""
    return next(None if flags is None else f"{command} {flags}" for part, flags in SHORTER.items() if part in command)


def test_every_command_works_after_the_one_before(tmp_path, renderer):
    (tmp_path / "results").symlink_to(ROOT / "results")  # committed sweeps and curves; nothing is written there
    run, other, count, trained, started = None, None, 0, set(), set()
    for page, command in commands():
        words = shortened(command)
        is_repeated = "train.py" in command and command in trained
        if words is None or is_repeated or "$SLURM" in words or "chunks ..." in words:
            continue
        trained.add(command)
        if run is None and "exp/RUN" in words:
            run, other = (
                str(min((tmp_path / "exp").glob(f"{name}-*")).relative_to(tmp_path))
                for name in ("sac", "va_cheetah_run")
            )
        if "benchmark.py" in words:
            (tmp_path / "results").unlink()  # benchmark.py makes results/NAME here
        names = {"exp/RUN": run, "exp/OTHER": other, "results/NAME": "results/first_evidence"}
        words = [next((w.replace(n, to) for n, to in names.items() if n in w), w) for w in shlex.split(words)]
        words = [path for word in words for path in (sorted(map(str, tmp_path.glob(word))) if "*" in word else [word])]
        script = ROOT / words[1]
        if script in started:
            result = run_script(script, *words[2:], cwd=tmp_path)
        else:  # each script once as users start it
            started.add(script)
            real = [sys.executable, str(script), *words[2:]]
            result = subprocess.run(real, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, f"{page}: {command}\n{result.stderr}"
        count += 1
    assert count > 15


def test_the_custom_environment_of_the_docs(tmp_path):
    text = (ROOT / "docs" / "custom_environment.md").read_text()
    (code,), (command,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "bash"))
    (tmp_path / "my_env.py").write_text(code)
    short = "--num_train_steps 300 --num_seed_steps 200 --num_eval_episodes 1 --no-save_video".split()
    result = train(tmp_path, *command.split()[2:], *short, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("exp/*/policy.pt"))


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    assert all(((ROOT / page).parent / link).exists() for link in links)


def test_the_promise_of_bit_exactness_excepts_all_timing_columns():
    section = (ROOT / "docs" / "runs.md").read_text().partition("## Bit-exactness")[2].partition("\n## ")[0]
    assert all(f"`{name}`" in section or name.startswith("share_") and "`share_*`" in section for name in TIMING)
