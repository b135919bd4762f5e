"""Soft Actor-Critic with action chunks on DM Control and Gymnasium tasks.

python train.py --env cheetah_run                               adaptive chunks of up to 5 actions
python train.py --env cheetah_run --confidence_threshold 0      chunks of always 5 actions (Q-chunking)
python train.py --env cheetah_run --chunk_size 1                plain SAC
python train.py --resume exp/RUN                                go on where a run was interrupted
tensorboard --logdir exp
"""

import io
import math
import os
import signal
import sys
import threading
import time
import warnings
from contextlib import contextmanager

from errors import RunError, UsageError, report_errors
from flags import fixed_flags, parse_args
from storage.files import write_atomically
from storage.run_dir import finished_steps, lock, make_run_dir, mark_finished, save_args, versions

# torch, mujoco and the rest are imported by train(): --help and a bad flag are answered at once.

COMPILE_FROM = 1000  # updates: what is wrong with a run shows before it stops to compile
COMPILE_WORTH = 30_000  # updates after which compilation has paid for itself, with some to spare


@contextmanager
def stop_signals():
    """A list that SIGINT and SIGTERM are put in; the second one ends the process at once."""
    received = []

    def receive(number, _):
        received.append(number)
        for name in handlers:
            signal.signal(name, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"stopping at the end of the episode; once more stops at once\n")

    handlers = {name: signal.signal(name, receive) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)


def train(args):
    """The whole run: collect, update, evaluate, log, checkpoint.

    Returns:
        exit status: 0, or 128 + the number of the signal that ended it.

    Raises:
        UsageError, RunError: see `errors`.
    """
    import video
    from envs import rendering

    # Before anything imports dm_control, which settles on a renderer then.
    if args.save_video:
        rendering.choose_renderer()
    else:
        rendering.disable_rendering()

    import numpy as np
    import torch

    from agent import SACAgent, compilation
    from agent.chunking import ChunkExecutor, Plan, by_confidence, epsilon_commit
    from envs import make_env, max_episode_steps, random_state, set_random_state
    from logger import Logger
    from replay_buffer import ReplayBuffer
    from rollout import evaluate
    from storage.checkpoint import Checkpoints
    from utils import choose_device, memory_limit, numpy_generator

    try:
        device = choose_device(args.device)
    except ValueError as error:
        raise UsageError(f"argument --device: {error}") from error
    try:
        env = make_env(args.env, args.action_repeat)
    except ValueError as error:
        raise UsageError(f"argument --env: {error}") from error
    longest = max_episode_steps(env)
    if args.chunk_size > longest:
        raise UsageError(f"argument --chunk_size: {args.chunk_size} is longer than an episode of {longest} steps")
    film = args.save_video
    eval_env = make_env(args.env, args.action_repeat, args.video_size if film else None, args.video_camera)
    video.check_fps(eval_env, args.video_fps)
    if film and (problem := video.probe_video(eval_env)):
        warnings.warn(f"training without video: {problem}", stacklevel=1)
        film, eval_env = False, make_env(args.env, args.action_repeat)
    if args.num_threads is None:
        args.num_threads = 1 if device.type == "cpu" and args.hidden_dim <= 512 else os.cpu_count()
    torch.set_num_threads(args.num_threads)
    if args.compile == "auto":
        updates = (args.num_train_steps - args.num_seed_steps) * args.updates_per_step
        pays = device.type == "cpu" and updates >= COMPILE_WORTH and compilation.has_compiler()
        args.compile = "on" if pays else "off"
    elif args.compile == "on" and device.type == "cpu" and not compilation.has_compiler():
        raise UsageError("argument --compile: there is no C++ compiler here; install one, name it in CXX, or use off")

    obs_size, action_size = env.observation_space.shape[0], env.action_space.shape[0]
    agent = SACAgent.from_flags(obs_size, action_size, vars(args) | {"device": device})
    agent.compile_from = COMPILE_FROM if args.compile == "on" else None
    # No more than a run can fill: two rows for an episode of one step.
    capacity = min(args.replay_buffer_capacity, 2 * args.num_train_steps + 1)
    size, limit = ReplayBuffer.num_bytes(obs_size, action_size, capacity), memory_limit()
    if limit is not None and size > limit:
        raise UsageError(
            f"argument --replay_buffer_capacity: {capacity:,} steps of {args.env} take {size / 1e9:,.1f} GB of memory; "
            f"there are {limit / 1e9:,.1f} GB"
        )
    buffer = ReplayBuffer(
        obs_size,
        action_size,
        capacity,
        args.chunk_size,
        args.discount,
        args.windows == "committed",
        device,
        numpy_generator(args.seed, "replay"),
    )

    def plan(obs):
        if step > args.num_seed_steps:
            return agent.plan(obs, sample=True)
        actions = np.tile(env.action_space.sample(), (args.chunk_size, 1))
        return Plan(actions, np.ones(args.chunk_size, np.float32))

    commit_rng = numpy_generator(args.seed, "commit")
    length_of = epsilon_commit(by_confidence(args.confidence_threshold), args.commit_epsilon, commit_rng)
    executor = ChunkExecutor(plan, length_of)
    env.action_space.seed(args.seed)

    run_dir = args.resume or make_run_dir(args)
    checkpoints = Checkpoints(run_dir)
    conditions = versions() | {"device": device.type, "num_threads": args.num_threads, "compile": args.compile}

    def save():
        if not agent.is_finite():
            raise RunError(f"step {step}: training has diverged: not all weights are finite")
        logger.sync()
        state = {
            "episode": episode,
            "flags": fixed_flags(vars(args)),
            "conditions": conditions,
            "agent": agent.state_dict(),
            "env": random_state(env),
            "replay": buffer.rng.bit_generator.state,
            "commit": commit_rng.bit_generator.state,
        }
        checkpoints.save(step, state, buffer)

    def restore():
        step, state, problems = checkpoints.load(buffer)
        if state["flags"] != fixed_flags(vars(args)):
            raise UsageError(f"{run_dir}/args.json has other flags than the checkpoint beside it")
        agent.load_state_dict(state["agent"])
        set_random_state(env, state["env"])
        buffer.rng.bit_generator.state = state["replay"]
        commit_rng.bit_generator.state = state["commit"]
        problems += [
            f"{name} was {then} and is {conditions[name]}: the run will not continue bit for bit"
            for name, then in state["conditions"].items()
            if conditions[name] != then
        ]
        for problem in problems:
            warnings.warn(problem, stacklevel=1)
        return step, state["episode"]

    def check(what, values, total):
        if not math.isfinite(total):  # of the sum: one look instead of one a value
            raise RunError(f"step {step}: {what} is not finite: {values}")

    with lock(run_dir), stop_signals() as stop:
        if args.resume and (finished := finished_steps(run_dir)) >= args.num_train_steps:
            print(f"{run_dir} has finished: {finished} of {args.num_train_steps} steps")
            return 0
        step, episode = restore() if args.resume else (0, 1)
        save_args(run_dir, args, step)
        if film:
            os.makedirs(os.path.join(run_dir, "video"), exist_ok=True)
        logger = Logger(run_dir, vars(args), args.num_train_steps, args.log_save_tb, step)
        logger.print(f"run directory {run_dir}" + (f", continued from step {step}" if args.resume else ""))
        next_checkpoint = step + args.checkpoint_frequency
        if args.checkpoint_frequency and step == 0:
            save()  # a run that is killed early can be continued too

        obs, _ = env.reset(seed=None if step else args.seed)
        check("the environment's observation", obs, obs.sum())
        episode_return, length, started = 0.0, 0, time.perf_counter()
        while step < args.num_train_steps:
            step += 1
            action = executor(obs)
            check("the policy's action", action, action.sum())
            next_obs, reward, terminated, truncated, info = env.step(action)
            check("the environment's reward", reward, reward)
            check("the environment's observation", next_obs, next_obs.sum())
            buffer.add(obs, action, reward, next_obs, terminated, truncated, executor.steps_left)
            obs = next_obs
            episode_return += reward
            length += 1

            if step > args.num_seed_steps:
                for _ in range(int(step * args.updates_per_step) - int((step - 1) * args.updates_per_step)):
                    metrics = agent.update(buffer.sample(args.batch_size))
                    if agent.num_updates % args.log_frequency == 0:
                        logger.record_update(metrics, step)

            episode_over = terminated or truncated
            if episode_over:
                if info.get("diverged"):
                    logger.print(f"step {step}: the simulation diverged, which ended the episode")
                duration = time.perf_counter() - started
                row = {
                    "step": step,
                    "episode": episode,
                    "return": episode_return,
                    "length": length,
                    "duration": duration,
                    "steps_per_second": length / duration,
                    "k": float(np.mean(executor.lengths)),
                }
                logger.log_train(row, executor.lengths, executor.confidences)
                executor.reset()
                episode, episode_return, length, started = episode + 1, 0.0, 0, time.perf_counter()

            if step % args.eval_frequency == 0 or step == args.num_train_steps:
                paused = time.perf_counter()
                row = evaluate(
                    agent,
                    eval_env,
                    step=step,
                    seed=args.seed,
                    num_episodes=args.num_eval_episodes,
                    confidence_threshold=args.confidence_threshold,
                    video_path=os.path.join(run_dir, "video", f"{step}.mp4") if film else None,
                    video_overlay=args.video_overlay,
                    video_fps=args.video_fps,
                )
                logger.log_eval(row)
                started += time.perf_counter() - paused
            logger.step()

            if episode_over:
                if args.checkpoint_frequency and (stop or step >= min(next_checkpoint, args.num_train_steps)):
                    save()
                    next_checkpoint = step + args.checkpoint_frequency
                if not stop:
                    obs, _ = env.reset()
                    check("the environment's observation", obs, obs.sum())
            if stop and (episode_over or not args.checkpoint_frequency):
                logger.close()
                return 128 + stop[0]

        policy = io.BytesIO()
        sizes = {"obs_size": obs_size, "action_size": action_size}
        torch.save({"args": vars(args), **sizes, "actor": agent.actor.state_dict()}, policy)
        write_atomically(os.path.join(run_dir, "policy.pt"), policy.getvalue())
        logger.close()
        mark_finished(run_dir, step)
        return 0


def main():
    """The command line; every error is one sentence."""
    # TensorBoard writes in a thread, which hands its error to the next call as well.
    threading.excepthook = lambda details: None if details.exc_type is OSError else threading.__excepthook__(details)
    args = parse_args()
    with report_errors():
        sys.exit(train(args))


if __name__ == "__main__":
    main()
