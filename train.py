"""Soft Actor-Critic with action chunks on DM Control and Gymnasium tasks.

python train.py --env cheetah_run                               adaptive chunks of up to 5 actions
python train.py --env cheetah_run --confidence_threshold 0      chunks of always 5 actions (Q-chunking)
python train.py --env cheetah_run --chunk_size 1                plain SAC
tensorboard --logdir exp
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time

from flags import parse_args

# torch, mujoco and the rest are imported by train(): --help and a bad flag are answered at once.

COMPILE_FROM = 1000  # updates: what is wrong with a run shows before it stops to compile
COMPILE_WORTH = 30_000  # updates after which compilation has paid for itself, with some to spare


def make_run_dir(args):
    """A new directory under exp/ that no other run can get."""
    env_name = re.sub(r"[^\w.-]", "_", args.env)
    name = f"{args.experiment}-{env_name}-h{args.chunk_size}-s{args.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    attempt = 1
    while True:
        run_dir = os.path.join("exp", name if attempt == 1 else f"{name}-{attempt}")
        try:
            os.makedirs(run_dir)  # fails if it exists: of two runs started at once one goes on to the next name
            return run_dir
        except FileExistsError:
            attempt += 1


def save_args(run_dir, args):
    """args.json: every flag, the command, package versions and the git commit of this file, if there is one."""
    packages = ("torch", "numpy", "mujoco", "dm_control", "gymnasium")
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    git = subprocess.run(describe, cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True, text=True)
    record = {
        "args": vars(args),
        "command": sys.argv,
        "versions": {"python": sys.version.split()[0]} | {name: importlib.metadata.version(name) for name in packages},
        "git_commit": git.stdout.strip() or None,
    }
    with open(os.path.join(run_dir, "args.json"), "w") as file:
        json.dump(record, file, indent=2)


def refuse(sentence):
    """End because of a mistake in the flags or the set-up."""
    print(f"train.py: error: {sentence}", file=sys.stderr)
    sys.exit(2)


def train(args):
    """The whole run: collect, update, evaluate, log."""
    import video

    # Before anything imports dm_control, which settles on a renderer then.
    if args.save_video:
        video.choose_renderer()
    else:
        video.disable_rendering()

    import numpy as np
    import torch

    from agent import SACAgent, compilation
    from agent.chunking import ChunkExecutor, Plan
    from env import make_env
    from evaluate import evaluate
    from logger import Logger
    from replay_buffer import ReplayBuffer
    from utils import choose_device, numpy_generator

    try:
        device = choose_device(args.device)
    except ValueError as error:
        refuse(f"argument --device: {error}")
    try:
        env = make_env(args.env, args.action_repeat)
    except ValueError as error:
        refuse(f"argument --env: {error}")
    except RuntimeError as error:
        refuse(error)
    film = args.save_video
    eval_env = make_env(args.env, args.action_repeat, args.video_size if film else None)
    if film and (problem := video.why_not_filmed(eval_env)):
        print(f"warning: training without video: {problem}", file=sys.stderr)
        film, eval_env = False, make_env(args.env, args.action_repeat)
    if args.num_threads is None:
        args.num_threads = 1 if device.type == "cpu" and args.hidden_dim <= 512 else os.cpu_count()
    torch.set_num_threads(args.num_threads)
    if args.compile == "auto":
        updates = (args.num_train_steps - args.num_seed_steps) * args.updates_per_step
        args.compile = (
            "on" if device.type == "cpu" and updates >= COMPILE_WORTH and compilation.has_compiler() else "off"
        )
    elif args.compile == "on" and device.type == "cpu" and not compilation.has_compiler():
        refuse("argument --compile: there is no C++ compiler here; install one, name it in CXX, or use off")

    obs_size, action_size = env.observation_space.shape[0], env.action_space.shape[0]
    agent = SACAgent.from_flags(obs_size, action_size, vars(args) | {"device": device})
    agent.compile_from = COMPILE_FROM if args.compile == "on" else None
    buffer = ReplayBuffer(
        obs_size,
        action_size,
        min(args.replay_buffer_capacity, 2 * args.num_train_steps + 1),  # all a run can fill: two rows a 1-step episode
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

    executor = ChunkExecutor(
        plan,
        args.confidence_threshold,
        args.commit_epsilon if args.windows == "committed" else 0.0,
        numpy_generator(args.seed, "commit"),
    )

    run_dir = make_run_dir(args)
    save_args(run_dir, args)
    if film:
        os.mkdir(os.path.join(run_dir, "video"))
    logger = Logger(run_dir, vars(args), args.num_train_steps, args.log_save_tb)
    logger.print(f"run directory {run_dir}")

    env.action_space.seed(args.seed)
    obs, _ = env.reset(seed=args.seed)
    episode, episode_return, length, started = 1, 0.0, 0, time.perf_counter()
    for step in range(1, args.num_train_steps + 1):
        action = executor(obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        buffer.add(obs, action, reward, next_obs, terminated, truncated, executor.steps_left)
        obs = next_obs
        episode_return += reward
        length += 1

        if step > args.num_seed_steps:
            for _ in range(int(step * args.updates_per_step) - int((step - 1) * args.updates_per_step)):
                metrics = agent.update(buffer.sample(args.batch_size))
                if agent.num_updates % args.log_frequency == 0:
                    logger.record_update(metrics)

        if terminated or truncated:
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
            obs, _ = env.reset()
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
            )
            logger.log_eval(row)
            started += time.perf_counter() - paused
        logger.step()

    torch.save(
        {"args": vars(args), "obs_size": obs_size, "action_size": action_size, "actor": agent.actor.state_dict()},
        os.path.join(run_dir, "policy.pt"),
    )
    logger.close()


if __name__ == "__main__":
    train(parse_args())
