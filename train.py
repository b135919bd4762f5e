"""Soft Actor-Critic with action chunks on DM Control and Gymnasium tasks.

python train.py --env cheetah_run                               adaptive chunks of up to 5 actions
python train.py --env cheetah_run --confidence_threshold 0      chunks of always 5 actions (Q-chunking)
python train.py --env cheetah_run --chunk_size 1                plain SAC
python train.py --resume exp/RUN                                continue an interrupted run
tensorboard --logdir exp
"""

import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace

from cli import parse_train_args

if __name__ == "__main__":
    # --help and a bad flag are answered here, before the imports below, which take seconds.
    COMMAND_LINE = parse_train_args()
    # Until main() listens to it, Ctrl-C ends the process at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import numpy as np
import torch

import video
from agent import SACAgent, compilation, fast_path
from agent.chunking import ChunkExecutor, Plan, by_confidence, epsilon_commit
from config import as_json, differing_flags
from envs import CameraError, EnvError, make_env, max_episode_steps, random_state, rendering, set_random_state
from errors import RunError, UsageError, report_errors
from launch.process import default_num_threads, stop_signals
from logger import Logger, check_csv
from replay_buffer import MARGIN, ReplayBuffer
from rollout import checked_reset, checked_step, evaluate
from storage.checkpoint import Checkpoints, restoring
from storage.policy import save_policy
from storage.run_dir import finished_steps, lock, make_run_dir, record_end, record_start, versions
from utils import Every, choose_device, numpy_generator


class Workspace:
    """One run: its environments, agent, replay buffer, files, and the loop over them.

    Args:
        config: `Config` as `resolve` gives it.
        run_dir: the directory of the run to continue, None for a new run.
        stop: list of the signals received so far; the run ends after the first one.

    Raises:
        UsageError: the run cannot start; nothing has been written then.
    """

    def __init__(self, config, run_dir=None, stop=()):
        self.config, self.stop, self.is_resumed = config, stop, run_dir is not None
        self.device = choose_device(config.device)
        self.make_envs()
        self.make_agent()
        self.make_replay_buffer()
        self.run_dir = run_dir or make_run_dir(config)
        self.checkpoints = Checkpoints(self.run_dir)
        self.conditions = versions() | {
            "device": self.device.type,
            "num_threads": config.num_threads,
            "compile": config.compile,
            "fast_path": config.fast_path,
        }
        self.step, self.episode = 0, 0
        self.episode_over, self.is_stopping = True, False

    def make_envs(self):
        """The environment to train in, and another one for evaluations, which can render if videos are wanted."""
        cfg = self.config
        render_size = cfg.video_size if cfg.save_video else None
        try:
            self.env = make_env(cfg.env, cfg.action_repeat)
            self.eval_env = make_env(cfg.env, cfg.action_repeat, render_size, cfg.video_camera)
        except EnvError as error:
            raise UsageError(f"argument --env: {error}") from error
        except CameraError as error:
            raise UsageError(f"argument --video_camera: {error}") from error
        longest = max_episode_steps(self.env)
        if cfg.chunk_size > longest:
            raise UsageError(f"argument --chunk_size: {cfg.chunk_size} is longer than an episode of {longest} steps")
        self.records_video = cfg.save_video
        try:
            video.check_fps(self.eval_env, cfg.video_fps)
        except ValueError as error:
            raise UsageError(f"argument --video_fps: {error}") from error
        if cfg.save_video and (problem := video.probe_video(self.eval_env, cfg.video_overlay)):
            warnings.warn(f"training without video: {problem}", stacklevel=1)
            self.records_video, self.eval_env = False, make_env(cfg.env, cfg.action_repeat)
        self.obs_size, self.action_size = self.env.observation_space.shape[0], self.env.action_space.shape[0]

    def make_agent(self):
        """The agent, and what executes its plans."""
        cfg = self.config
        self.agent = SACAgent(self.obs_size, self.action_size, cfg, self.device)
        self.commit_rng = numpy_generator(cfg.seed, "commit")
        commit_rule = epsilon_commit(by_confidence(cfg.confidence_threshold), cfg.commit_epsilon, self.commit_rng)
        self.executor = ChunkExecutor(self.plan, commit_rule)
        self.env.action_space.seed(cfg.seed)

    def make_replay_buffer(self):
        """The replay buffer, no larger than a run can fill."""
        cfg = self.config
        most = max(2 * cfg.num_train_steps + 1, cfg.chunk_size + MARGIN)  # two rows for an episode of one step
        try:
            self.buffer = ReplayBuffer(
                self.obs_size,
                self.action_size,
                min(cfg.replay_buffer_capacity, most),
                cfg.chunk_size,
                cfg.discount,
                cfg.windows == "committed",
                self.device,
                numpy_generator(cfg.seed, "replay"),
            )
        except ValueError as error:
            raise UsageError(f"argument --replay_buffer_capacity: {error}") from error

    def train(self):
        """Collect, update, evaluate, log and checkpoint until num_train_steps are done.

        Returns:
            exit status: 0, or 128 + the number of the signal that ended the run.

        Raises:
            UsageError, RunError: see `errors`.
        """
        with lock(self.run_dir):
            if self.has_finished():
                return 0
            self.start()
            while self.step < self.config.num_train_steps and not self.must_stop():
                if self.episode_over:
                    self.start_episode()
                self.collect()
                self.update()
                if self.episode_over:
                    self.log_episode()
                if self.evaluation_due(self.step) or self.step == self.config.num_train_steps:
                    self.evaluate()
                self.logger.step()
                self.is_stopping = bool(self.stop)  # read once: what stops the run must also have saved it
                if self.episode_over:
                    self.checkpoint_if_due()
            return self.finish()

    def has_finished(self):
        """Whether the run that is resumed has done all its steps; then a line says so."""
        finished = finished_steps(self.run_dir) if self.is_resumed else 0
        if finished < self.config.num_train_steps:
            return False
        print(f"{self.run_dir} has finished its {finished} steps")
        return True

    def start(self):
        """Restore the last checkpoint or take the first one, and open the log files."""
        cfg = self.config
        if self.is_resumed:
            self.restore()
        compile_from = compilation.COMPILE_FROM if cfg.compile == "on" else None
        if cfg.fast_path:
            fast_path.install(self.agent, compile_from)
        self.first_compiled_update = compile_from and max(compile_from, self.agent.num_updates + 1)
        self.evaluation_due = Every(cfg.eval_frequency, self.step - self.step % cfg.eval_frequency)
        self.checkpoint_due = Every(cfg.checkpoint_frequency, self.step)
        record_start(self.run_dir, cfg, self.step)
        if self.records_video:
            os.makedirs(os.path.join(self.run_dir, "video"), exist_ok=True)
        self.logger = Logger(self.run_dir, as_json(cfg), cfg.num_train_steps, cfg.log_save_tb, self.step)
        continued = f", continued from step {self.step}" if self.is_resumed else ""
        self.logger.print(f"run directory {self.run_dir}{continued}\n{self.summary()}")
        if cfg.checkpoint_frequency and self.step == 0:
            self.save()  # so that a run that is killed early can be continued, too
        self.is_stopping = bool(self.stop)

    def summary(self):
        """What a user wants to know before the first result, in one line."""
        cfg = self.config
        threads = f"{cfg.num_threads} thread" + "s" * (cfg.num_threads > 1)
        compiled = "compiled after 1,000 updates" if cfg.compile == "on" else "not compiled"
        renderer = os.environ.get("MUJOCO_GL", "the environment's") if self.records_video else "none"
        first = min(self.step + cfg.eval_frequency - self.step % cfg.eval_frequency, cfg.num_train_steps)
        return (
            f"device {self.device}, {threads}, {compiled}, replay buffer {self.buffer.rows.nbytes / 1e6:,.0f} MB, "
            f"renderer {renderer}, next evaluation at step {first:,}"
        )

    def start_episode(self):
        """Reset the environment; the first plan is made from its first observation."""
        self.episode += 1
        self.episode_over = False
        self.episode_return, self.episode_length, self.episode_started = 0.0, 0, time.perf_counter()
        self.executor.reset()
        seed = None if self.step else self.config.seed
        self.obs = checked_reset(self.env, seed, f"step {self.step}")

    def collect(self):
        """One environment step into the replay buffer."""
        self.step += 1
        action = self.executor(self.obs)
        where = f"step {self.step}"
        next_obs, reward, terminated, truncated, info = checked_step(self.env, action, where)
        steps_left = self.executor.steps_left
        self.buffer.add(self.obs, action, reward, next_obs, terminated, truncated, steps_left, self.is_planned)
        self.obs = next_obs
        self.episode_return += reward
        self.episode_length += 1
        self.episode_over = terminated or truncated
        if info.get("diverged"):
            self.logger.print(f"step {self.step}: the simulation diverged, which ended the episode")

    def plan(self, obs):
        """The policy's plan, or while seed steps are collected one random action, held for the whole chunk."""
        self.is_planned = self.step > self.config.num_seed_steps
        if self.is_planned:
            return self.agent.plan(obs, sample=True)
        h = self.config.chunk_size
        return Plan(np.tile(self.env.action_space.sample(), (h, 1)), np.ones(h, np.float32))

    def update(self):
        """The gradient steps that are due after this environment step: none, one or several."""
        cfg = self.config
        if self.step <= cfg.num_seed_steps:
            return
        for _ in range(int(self.step * cfg.updates_per_step) - int((self.step - 1) * cfg.updates_per_step)):
            if self.agent.num_updates + 1 == self.first_compiled_update:
                self.logger.print(
                    "compiling the update: half a minute to two, a few seconds if its cache knows the agent"
                )
            metrics = self.agent.update(self.buffer.sample(cfg.batch_size))
            if self.agent.num_updates % cfg.log_frequency == 0:
                self.logger.record_update(metrics, self.step)

    def log_episode(self):
        """The episode's row in train.csv."""
        duration = time.perf_counter() - self.episode_started
        row = {
            "step": self.step,
            "episode": self.episode,
            "return": self.episode_return,
            "length": self.episode_length,
            "duration": duration,
            "steps_per_second": self.episode_length / duration,
            "k": float(np.mean(self.executor.lengths)),
        }
        self.logger.log_train(row, self.executor.lengths, self.executor.confidences)

    def evaluate(self):
        """Play the mode of the policy in the other environment; training is the same with and without."""
        cfg, started = self.config, time.perf_counter()
        self.logger.announce("evaluating")
        row = evaluate(
            self.agent,
            self.eval_env,
            step=self.step,
            seed=cfg.seed,
            num_episodes=cfg.num_eval_episodes,
            confidence_threshold=cfg.confidence_threshold,
            video_path=os.path.join(self.run_dir, "video", f"{self.step}.mp4") if self.records_video else None,
            video_overlay=cfg.video_overlay,
            video_fps=cfg.video_fps,
        )
        self.logger.log_eval(row)
        self.episode_started += time.perf_counter() - started  # `duration` leaves evaluations out

    def checkpoint_if_due(self):
        """Save at the end of an episode: only there is every row of the replay buffer final."""
        is_last = self.is_stopping or self.step == self.config.num_train_steps
        if self.config.checkpoint_frequency and (self.checkpoint_due(self.step) or is_last):
            self.save()

    def must_stop(self):
        """Whether a signal ends the run here: where it can be continued from, if it takes checkpoints at all."""
        return self.is_stopping and (self.episode_over or not self.config.checkpoint_frequency)

    def finish(self):
        """Close the log; write policy.pt if all steps are done. Returns the exit status."""
        if self.step < self.config.num_train_steps:
            self.logger.close()
            print(f"stopped at step {self.step}; continue with: python train.py --resume {self.run_dir}")
            return 128 + self.stop[0]
        weights, flags = self.agent.actor.state_dict(), as_json(self.config)
        save_policy(self.run_dir, weights, flags, self.obs_size, self.action_size, self.step)
        record_end(self.run_dir, self.step)
        self.logger.close()
        print(f"play it: python evaluate.py {self.run_dir} --video\nplot it: python plot.py {self.run_dir}")
        return 0

    def save(self):
        """A checkpoint of everything that the run's future depends on."""
        if not self.agent.is_finite():
            raise RunError(f"step {self.step}: training has diverged: not all weights are finite")
        self.logger.sync()
        state = {
            "episode": self.episode + 1,
            "flags": as_json(self.config),
            "conditions": self.conditions,
            "agent": self.agent.state_dict(),
            "env": random_state(self.env),
            "replay": self.buffer.rng.bit_generator.state,
            "commit": self.commit_rng.bit_generator.state,
            "rows": self.logger.num_rows(),
        }
        self.checkpoints.save(self.step, state, self.buffer)

    def restore(self):
        """Take over the newest checkpoint that is whole."""
        self.step, state, problems = self.checkpoints.load(self.buffer)
        if self.step > self.config.num_train_steps:
            shorter = f"argument --num_train_steps: {self.config.num_train_steps} is less than the {self.step} steps"
            raise UsageError(f"{shorter} that {self.run_dir} has done")
        with restoring(self.run_dir):
            if differing := differing_flags(state["flags"], self.config):
                path = os.path.join(self.run_dir, "args.json")
                raise UsageError(f"{path} has other flags than the checkpoint beside it: {', '.join(differing)}")
            self.episode = state["episode"] - 1
            self.agent.load_state_dict(state["agent"])
            set_random_state(self.env, state["env"])
            self.buffer.rng.bit_generator.state = state["replay"]
            self.commit_rng.bit_generator.state = state["commit"]
            then, rows = dict(state["conditions"]), state["rows"]
        check_csv(self.run_dir, self.step, rows)
        problems += [
            f"{name} was {then.get(name)} and is {now}: the run will not continue bit for bit"
            for name, now in self.conditions.items()
            if then.get(name) != now
        ]
        for problem in problems:
            warnings.warn(problem, stacklevel=1)


def resolve(config):
    """The configuration with compile and num_threads as they are on this machine.

    Raises:
        UsageError: this machine has no such device or no compiler.
    """
    try:
        device = choose_device(config.device)
    except ValueError as error:
        raise UsageError(f"argument --device: {error}") from error
    compile, num_threads = config.compile, config.num_threads
    if compile == "auto":
        compile = "on" if config.fast_path and compilation.pays(config, device) else "off"
    elif compile == "on" and not config.fast_path:
        raise UsageError("argument --compile: on needs --fast_path; add --compile off")
    elif compile == "on" and device.type == "cpu" and not compilation.has_compiler():
        raise UsageError("argument --compile: there is no C++ compiler here; install one, name it in CXX, or use off")
    if num_threads is None:
        num_threads = default_num_threads(config.hidden_dim, device.type)
    return replace(config, compile=compile, num_threads=num_threads)


def main():
    """The command: whatever is set for the whole process is set here."""
    # TensorBoard writes in a thread, which hands its error to the next call as well.
    threading.excepthook = lambda details: None if details.exc_type is OSError else threading.__excepthook__(details)
    config, run_dir = COMMAND_LINE
    with report_errors(), stop_signals() as stop:
        # Before anything imports dm_control, which settles on a renderer then.
        if config.save_video:
            rendering.choose_renderer()
        else:
            rendering.disable_rendering()
        config = resolve(config)
        torch.set_num_threads(config.num_threads)
        sys.exit(Workspace(config, run_dir, stop).train())


if __name__ == "__main__":
    main()
