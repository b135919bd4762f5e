"""Soft Actor-Critic with action chunks on DM Control and Gymnasium tasks.

python train.py --env cheetah_run                               adaptive chunks, at most 5 actions
python train.py --env cheetah_run --confidence_threshold 0      fixed chunks of 5 actions (Q-chunking)
python train.py --env cheetah_run --chunk_size 1                SAC, one action per plan
python train.py --resume exp/RUN                                continue an interrupted run
tensorboard --logdir exp
"""

import signal

if __name__ == "__main__":
    # First of all: until main() installs its handlers, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
import threading
import time
import warnings
from contextlib import closing

from cli import parse_train_args

if __name__ == "__main__":
    # Parsed before the imports below, which take seconds, so that --help and bad flags are answered at once.
    COMMAND_LINE = parse_train_args()

import numpy as np
import torch

import video
from agent import SACAgent, compilation, fast_path
from agent.chunking import ChunkExecutor, Plan, by_confidence, epsilon_commit
from agent.pink_noise import PinkNoise
from config import as_json, differing_flags, distinguishing_flags
from envs import CameraError, EnvError, make_env, max_episode_steps, random_state, rendering, set_random_state
from errors import RunError, UsageError, report_errors
from launch.machine import describe_update, resolve
from launch.process import stop_signals
from logger import Logger, check_csv
from replay_buffer import MARGIN, ReplayBuffer
from rollout import checked_reset, checked_step, evaluate
from storage.checkpoint import Checkpoints, restoring
from storage.policy import save_policy
from storage.run_dir import finished_steps, lock, make_run_dir, record_end, record_start, record_update, versions
from utils import Every, Stopwatch, choose_device, numpy_generator

SECTIONS = ("collect", "sample", "update", "evaluate", "checkpoint")  # of the loop; shares of their time are logged


class Workspace:
    """One training run: environments, agent, replay buffer, output files and the training loop.

    Args:
        config: `Config` as `resolve` gives it.
        run_dir: the directory of the run to resume, None for a new run.
        stop: list of the signals received so far, which grows while the run goes on; the first one ends the run.

    Raises:
        UsageError: a flag cannot be used; nothing has been written.
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
        """Make the training environment and the evaluation environment; only the latter renders."""
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
        """Make the agent, the executor of its plans and the exploration noise."""
        cfg = self.config
        self.agent = SACAgent(self.obs_size, self.action_size, cfg, self.device)
        self.commit_rng = numpy_generator(cfg.seed, "commit")
        commit_rule = epsilon_commit(by_confidence(cfg.confidence_threshold), cfg.commit_epsilon, self.commit_rng)
        self.executor = ChunkExecutor(self.plan, commit_rule)
        self.pink_noise = None  # with one action per plan noise is independent
        if cfg.chunk_size > 1:
            rng = numpy_generator(cfg.seed, "exploration")
            self.pink_noise = PinkNoise(max_episode_steps(self.env), cfg.chunk_size, self.action_size, rng)
        self.env.action_space.seed(cfg.seed)

    def make_replay_buffer(self):
        """Make the replay buffer, with no more rows than the run can fill."""
        cfg = self.config
        # An episode of one step takes the most rows: the step, and an end mark or the h - 1 actions left of its plan.
        most = max(max(2, cfg.chunk_size) * cfg.num_train_steps + 1, cfg.chunk_size + MARGIN)
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
        """Collect, update, log, evaluate and checkpoint for num_train_steps steps.

        Returns:
            exit status: 0, or 128 + the number of the signal that ended the run.

        Raises:
            UsageError, RunError: see `errors`.
        """
        with lock(self.run_dir):
            if self.has_finished():
                return 0
            self.start()
            with closing(self.logger):
                self.stopwatch = Stopwatch(*SECTIONS)
                while self.step < self.config.num_train_steps and not self.must_stop():
                    with self.stopwatch.section("collect"):
                        if self.episode_over:
                            self.start_episode()
                        self.collect()
                    self.update()
                    if self.episode_over:
                        self.log_episode()
                    if self.evaluation_due(self.step) or self.step == self.config.num_train_steps:
                        with self.stopwatch.section("evaluate"):
                            self.evaluate()
                    self.logger.step()
                    # Read once per step: a signal that arrives after the checkpoint below must not stop the run before
                    # the next one.
                    self.is_stopping = bool(self.stop)
                    if self.episode_over:
                        with self.stopwatch.section("checkpoint"):
                            self.checkpoint_if_due()
                return self.finish()

    def has_finished(self):
        """Whether the resumed run has done all its steps already; if so, print a line."""
        finished = finished_steps(self.run_dir) if self.is_resumed else 0
        if finished < self.config.num_train_steps:
            return False
        print(f"{self.run_dir} has finished its {finished} steps")
        return True

    def start(self):
        """Restore the newest checkpoint or save the first one, and open the log files."""
        cfg = self.config
        if self.is_resumed:
            self.restore()
        self.update_description = describe_update(cfg, self.device)
        record_start(self.run_dir, cfg, self.update_description, resumed_at=self.step if self.is_resumed else None)
        compile_from = compilation.COMPILE_FROM if cfg.compile == "on" else None
        self.first_compiled_update = compile_from and max(compile_from, self.agent.num_updates + 1)
        if cfg.fast_path:
            fast_path.install(self.agent, compile_from, self.record_failed_compilation)
        self.evaluation_due = Every(cfg.eval_frequency, self.step - self.step % cfg.eval_frequency)
        self.checkpoint_due = Every(cfg.checkpoint_frequency, self.step)
        if self.records_video:
            os.makedirs(os.path.join(self.run_dir, "video"), exist_ok=True)
        self.logger = Logger(self.run_dir, distinguishing_flags(cfg), cfg.num_train_steps, cfg.log_save_tb, self.step)
        continued = f", continued from step {self.step}" if self.is_resumed else ""
        self.logger.print(f"run directory {self.run_dir}{continued}\n{self.summary()}")
        if cfg.checkpoint_frequency and self.step == 0:
            self.save()  # a run that is killed before its first regular checkpoint can be resumed, too
        self.is_stopping = bool(self.stop)

    def record_failed_compilation(self, reason):
        """Put into args.json why this start does not compile its updates, though it was to."""
        self.first_compiled_update, self.update_description = None, f"not compiled ({reason})"
        record_update(self.run_dir, self.update_description)

    def summary(self):
        """Device, threads, how updates are computed, memory, renderer and next evaluation, in one line."""
        cfg = self.config
        threads = f"{cfg.num_threads} thread" + "s" * (cfg.num_threads > 1)
        renderer = os.environ.get("MUJOCO_GL", "the environment's") if self.records_video else "none"
        first = min(self.step + cfg.eval_frequency - self.step % cfg.eval_frequency, cfg.num_train_steps)
        return (
            f"device {self.device}, {threads}, {self.update_description}, replay buffer "
            f"{self.buffer.rows.nbytes / 1e6:,.0f} MB, renderer {renderer}, next evaluation at step {first:,}"
        )

    def start_episode(self):
        """Reset the environment, the executor and the episode's statistics."""
        self.episode += 1
        self.episode_over = False
        self.episode_return, self.episode_length, self.episode_started = 0.0, 0, time.perf_counter()
        self.executor.reset()
        if self.pink_noise:
            self.pink_noise.reset()
        seed = None if self.step else self.config.seed
        self.obs = checked_reset(self.env, seed, f"step {self.step}")
        self.agent.observe(self.obs)

    def collect(self):
        """Take one environment step and add it to the replay buffer."""
        self.step += 1
        action = self.executor(self.obs)
        where = f"step {self.step}"
        next_obs, reward, terminated, truncated, info = checked_step(self.env, action, where)
        diverged = info.get("diverged", False)
        if not (diverged and np.array_equal(next_obs, self.obs)):  # else it has been counted
            self.agent.observe(next_obs)
        rest = self.executor.rest
        self.buffer.add(self.obs, action, reward, next_obs, terminated, truncated, rest, self.is_planned)
        self.obs = next_obs
        self.episode_return += reward
        self.episode_length += 1
        self.episode_over = terminated or truncated
        if diverged:
            self.logger.print(f"step {self.step}: the simulation diverged, which ended the episode")

    def plan(self, obs):
        """The policy's plan; in the seed steps one random action, held for the whole chunk. obs (O,) -> Plan."""
        # For all steps of the plan: one that began in the seed steps and goes on after them stays a random one.
        self.is_planned = self.step > self.config.num_seed_steps
        if self.is_planned:
            noise = self.pink_noise.at(self.episode_length) if self.pink_noise else None
            return self.agent.plan(obs, sample=True, noise=noise)
        h = self.config.chunk_size
        return Plan(np.tile(self.env.action_space.sample(), (h, 1)), np.ones(h, np.float32))

    def update(self):
        """The updates that are due after this environment step: none, one or several."""
        cfg = self.config
        if self.step <= cfg.num_seed_steps:
            return
        for _ in range(int(self.step * cfg.updates_per_step) - int((self.step - 1) * cfg.updates_per_step)):
            if self.agent.num_updates + 1 == self.first_compiled_update:
                self.logger.print("compiling the update: 30 to 120 seconds, or a few seconds if it is in the cache")
            with self.stopwatch.section("sample"):
                batch = self.buffer.sample(cfg.batch_size)
            with self.stopwatch.section("update"):
                metrics = self.agent.update(batch)
            if self.agent.num_updates % cfg.log_frequency == 0:
                self.logger.record_update(metrics, self.step)

    def log_episode(self):
        """Log the episode's row of train.csv."""
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
        row |= {f"share_{name}": share for name, share in self.stopwatch.pop_shares().items()}
        self.logger.log_train(row, self.executor.lengths, self.executor.confidences)

    def evaluate(self):
        """Evaluate the policy without its noise, in the evaluation environment; this does not change the training."""
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
        self.episode_started += time.perf_counter() - started  # `duration` excludes evaluations

    def checkpoint_if_due(self):
        """Save at the end of an episode: only then all rows of the replay buffer are final."""
        is_last = self.is_stopping or self.step == self.config.num_train_steps
        if self.config.checkpoint_frequency and (self.checkpoint_due(self.step) or is_last):
            self.save()

    def must_stop(self):
        """Whether a signal ends the run now: after the episode's checkpoint, or at once if there are no checkpoints."""
        return self.is_stopping and (self.episode_over or not self.config.checkpoint_frequency)

    def finish(self):
        """Write policy.pt if all steps are done. Returns the exit status."""
        if self.step < self.config.num_train_steps:
            resume = f"continue with: python train.py --resume {self.run_dir}"
            what = resume if self.config.checkpoint_frequency else "no checkpoint was saved"
            self.logger.print(f"stopped at step {self.step}; {what}")
            return 128 + self.stop[0]
        weights, flags = self.agent.actor.state_dict(), as_json(self.config)
        save_policy(self.run_dir, weights, flags, self.obs_size, self.action_size, self.step)
        record_end(self.run_dir, self.step)
        self.logger.print(f"play it: python evaluate.py {self.run_dir} --video\nplot it: python plot.py {self.run_dir}")
        return 0

    def save(self):
        """Save a checkpoint: the complete state of the run at the end of an episode."""
        if not self.agent.is_finite():
            raise RunError(f"step {self.step}: training has diverged: not all weights are finite")
        self.logger.sync()
        state = {
            "episode": self.episode + 1,  # the number of the next one
            "flags": as_json(self.config),
            "conditions": self.conditions,
            "agent": self.agent.state_dict(),
            "env": random_state(self.env),
            "replay": self.buffer.rng.bit_generator.state,
            "commit": self.commit_rng.bit_generator.state,
            "rows": self.logger.num_rows(),
        }
        if self.pink_noise:
            state["exploration"] = self.pink_noise.rng.bit_generator.state
        self.checkpoints.save(self.step, state, self.buffer)

    def restore(self):
        """Load the newest undamaged checkpoint.

        Warns:
            a checkpoint was damaged, rows of a CSV file are missing, or versions and device differ.

        Raises:
            UsageError: there is no usable checkpoint, or its flags differ from those of the run.
        """
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
            if self.pink_noise:
                self.pink_noise.rng.bit_generator.state = state["exploration"]
            then, rows = dict(state["conditions"]), state["rows"]
        check_csv(self.run_dir, self.step, rows)
        problems += [
            f"{name} was {then.get(name)} and is {now}: the run will not continue bit for bit"
            for name, now in self.conditions.items()
            if then.get(name) != now
        ]
        for problem in problems:
            warnings.warn(problem, stacklevel=1)


def main():
    """The command. Settings of the whole process (signals, threads, renderer) are made here."""
    # TensorBoard writes in a thread; a failed write is raised again by the next call, so it need not be printed.
    threading.excepthook = lambda details: None if details.exc_type is OSError else threading.__excepthook__(details)
    config, run_dir = COMMAND_LINE
    with report_errors(), stop_signals() as stop:
        # Before anything imports dm_control, which chooses its renderer at import.
        if config.save_video:
            rendering.choose_renderer()
        else:
            rendering.disable_rendering()
        config = resolve(config)
        torch.set_num_threads(config.num_threads)
        sys.exit(Workspace(config, run_dir, stop).train())


if __name__ == "__main__":
    main()
