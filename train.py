"""Soft Actor-Critic with action chunks on DM Control and Gymnasium tasks.

    python train.py --env cheetah_run                               adaptive chunks of up to 5 actions
    python train.py --env cheetah_run --confidence_threshold 0      chunks of always 5 actions (Q-chunking)
    python train.py --env cheetah_run --chunk_size 1                plain SAC
    tensorboard --logdir exp
"""

import argparse
import importlib.metadata
import inspect
import json
import math
import os
import re
import subprocess
import sys
import time

# torch, mujoco and the rest are imported by train(): --help and a bad flag are answered at once.


def number(kind, low=-math.inf, high=math.inf, open_low=False, open_high=False):
    """An argparse type: a finite int or float within an interval; 1e6 is an int too."""

    def parse(text):
        value = float(text)
        if kind is int:
            if not value.is_integer():
                raise argparse.ArgumentTypeError(f"{text} is not a whole number")
            value = int(value)
        below = value <= low if open_low else value < low
        above = value >= high if open_high else value > high
        if not math.isfinite(value) or below or above:
            interval = f"{'(' if open_low or low == -math.inf else '['}{low:g}, {high:g}"
            interval += ")" if open_high or high == math.inf else "]"
            raise argparse.ArgumentTypeError(f"{text} is not in {interval}")
        return value

    parse.__name__ = kind.__name__  # argparse names the type in "invalid int value"
    return parse


POSITIVE_INT = number(int, 1)
NON_NEGATIVE_INT = number(int, 0)
POSITIVE = number(float, 0, open_low=True)
NON_NEGATIVE = number(float, 0)
FRACTION = number(float, 0, 1)
BELOW_ONE = number(float, 0, 1, open_high=True)
FINITE = number(float)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to each help text, unless the text itself has to explain it."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=36, width=118)

    def _get_help_string(self, action):
        return action.help if action.default in (None, argparse.SUPPRESS) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one sentence instead of the whole usage."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists all flags)\n")


def build_parser():
    """The command line: every flag of a run."""
    parser = Parser(
        description="Train Soft Actor-Critic with action chunks. Steps are the agent's: one action, one step.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )

    def flag(group, name, kind, default, help, metavar=None, **options):
        if kind is bool:
            group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=help)
        else:
            metavar = metavar or ("N" if kind in (POSITIVE_INT, NON_NEGATIVE_INT) else "X")
            options |= {} if "choices" in options else {"metavar": metavar}
            group.add_argument(f"--{name}", type=kind, default=default, help=help, **options)

    run = parser.add_argument_group("run")
    flag(run, "experiment", str, "sac", "name of the experiment, first part of the run directory's name", "NAME")
    flag(run, "seed", NON_NEGATIVE_INT, 1, "seed of every random stream")
    flag(run, "device", str, "auto", "torch device: cpu, cuda, cuda:1, mps; auto takes CUDA where there is one", "NAME")
    flag(run, "num_threads", POSITIVE_INT, None, "torch threads (default: 1 on a CPU with networks of up to 512 units, else all cores)")
    flag(run, "num_train_steps", POSITIVE_INT, 1_000_000, "length of the run, steps")
    flag(run, "num_seed_steps", NON_NEGATIVE_INT, 2500, "uniformly random steps at the start, without updates; one action is held for chunk_size steps")
    flag(run, "eval_frequency", POSITIVE_INT, 10_000, "steps between two evaluations; there is one at the end too")
    flag(run, "num_eval_episodes", POSITIVE_INT, 10, "episodes of an evaluation")

    env = parser.add_argument_group("environment")
    env.add_argument("--env", required=True, metavar="NAME", help="DM Control task (cheetah_run, ball_in_cup_catch, ...) or Gymnasium id (Pendulum-v1, HalfCheetah-v5, module:Id-v0)")
    flag(env, "action_repeat", POSITIVE_INT, 1, "control steps that each action is applied for; one agent step all the same")

    chunking = parser.add_argument_group("chunking")
    flag(chunking, "chunk_size", POSITIVE_INT, 5, "h: actions a plan; 1 is plain SAC")
    flag(chunking, "confidence_threshold", FRACTION, 0.5, "a plan is executed until a confidence drops below this; 0 executes whole plans")
    flag(chunking, "confidence_margin", NON_NEGATIVE, 0.5, "how much worse than replanning a planned step may be, in standard deviations of its estimated advantage")
    flag(chunking, "noise_correlation", BELOW_ONE, 0.8, "correlation of the exploration noise of neighbouring actions of a plan, at the start; 0 is independent noise")
    flag(chunking, "learnable_noise_correlation", bool, True, "learn that correlation with the actor")
    flag(chunking, "windows", str, "any", "replayed action prefixes: any executed actions in a row (right for deterministic dynamics), or only those committed to in one plan (right for random dynamics)", choices=("any", "committed"))
    flag(chunking, "commit_epsilon", FRACTION, 0.1, "with committed windows: probability that a plan is executed to its end whatever its confidences")

    sac = parser.add_argument_group("SAC")
    flag(sac, "discount", BELOW_ONE, 0.99, "discount, a step")
    flag(sac, "batch_size", POSITIVE_INT, 128, "windows a batch")
    flag(sac, "updates_per_step", POSITIVE, 1.0, "updates a step; 0.5 is one every other step")
    flag(sac, "replay_buffer_capacity", number(int, 2), 1_000_000, "steps that the replay buffer holds")
    flag(sac, "init_temperature", POSITIVE, 0.1, "temperature (alpha) at the start, reward a nat")
    flag(sac, "learnable_temperature", bool, True, "learn the temperature")
    flag(sac, "target_entropy", FINITE, None, "entropy that the temperature aims at, nats a step (default: minus the number of action dimensions)")
    for name, of in (("actor", "actor"), ("critic", "critic"), ("alpha", "temperature")):
        flag(sac, f"{name}_lr", POSITIVE, 3e-4, f"Adam's learning rate, {of}")
        flag(sac, f"{name}_betas", BELOW_ONE, (0.9, 0.999), f"Adam's betas, {of}", ("B1", "B2"), nargs=2)
    flag(sac, "actor_update_frequency", POSITIVE_INT, 1, "updates between two actor, confidence and temperature updates")
    flag(sac, "critic_target_update_frequency", POSITIVE_INT, 1, "updates between two target critic updates")
    flag(sac, "critic_tau", number(float, 0, 1, open_low=True), 0.005, "share of the critic that a target update takes over")

    networks = parser.add_argument_group("networks")
    flag(networks, "hidden_dim", POSITIVE_INT, 256, "units a hidden layer")
    flag(networks, "hidden_depth", POSITIVE_INT, 2, "hidden layers")
    flag(networks, "critic_layer_norm", bool, True, "LayerNorm in the critic's hidden layers")
    flag(networks, "actor_log_std_bounds", FINITE, (-5.0, 2.0), "range of the log standard deviation before the tanh", ("LOW", "HIGH"), nargs=2)

    logging = parser.add_argument_group("logging")
    flag(logging, "log_frequency", POSITIVE_INT, 100, "updates between two that enter train.csv")
    flag(logging, "log_save_tb", bool, True, "write TensorBoard files")
    flag(logging, "save_video", bool, True, "film the first episode of each evaluation")
    flag(logging, "video_size", number(int, 16), 256, "pixels a side of the video (DM Control)")
    return parser


def parse_args(argv=None):
    """The flags of a run, checked against each other."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not re.fullmatch(r"[\w.-]+", args.experiment):
        parser.error("argument --experiment: only letters, digits, '.', '_' and '-' are allowed")
    if args.num_seed_steps > args.num_train_steps:
        parser.error(f"argument --num_seed_steps: {args.num_seed_steps} is more than --num_train_steps {args.num_train_steps}")
    if args.batch_size > args.replay_buffer_capacity:
        parser.error(f"argument --batch_size: {args.batch_size} is more than --replay_buffer_capacity {args.replay_buffer_capacity}")
    if args.actor_log_std_bounds[0] >= args.actor_log_std_bounds[1]:
        parser.error("argument --actor_log_std_bounds: LOW must be less than HIGH")
    if args.video_size % 2:
        parser.error(f"argument --video_size: {args.video_size} is odd, which mp4 does not take")
    return args


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
    git = subprocess.run(
        ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
    )
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
    video.choose_renderer() if args.save_video else video.disable_rendering()

    import numpy as np
    import torch

    from agent import SACAgent
    from agent.chunking import ChunkExecutor, Plan
    from env import make_env
    from evaluate import evaluate
    from logger import Logger
    from replay_buffer import ReplayBuffer
    from utils import choose_device, generator

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

    obs_size, action_size = env.observation_space.shape[0], env.action_space.shape[0]
    agent_options = inspect.getfullargspec(SACAgent).kwonlyargs
    agent = SACAgent(
        obs_size, action_size, **{name: value for name, value in vars(args).items() if name in agent_options} | {"device": device}
    )
    buffer = ReplayBuffer(
        obs_size,
        action_size,
        min(args.replay_buffer_capacity, 2 * args.num_train_steps + 1),
        args.chunk_size,
        args.discount,
        args.windows == "committed",
        device,
        generator(args.seed, "replay"),
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
        np.random.default_rng([args.seed, 1]),
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
