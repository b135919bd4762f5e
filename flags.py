"""The command line of train.py. Imports neither torch nor mujoco: --help and a bad flag are answered at once."""

import argparse
import math
import os
import re

from errors import UsageError
from storage.run_dir import find_run


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
            interval = f"{'(' if open_low or low == -math.inf else '['}{low:.10g}, {high:.10g}"
            interval += ")" if open_high or high == math.inf else "]"
            raise argparse.ArgumentTypeError(f"{text} is not in {interval}")
        return value

    parse.__name__ = kind.__name__  # argparse names the type in "invalid int value"
    return parse


def video_size(text):
    """An argparse type: pixels a side of a video."""
    value = number(int, 16)(text)
    if value % 2:
        raise argparse.ArgumentTypeError(f"{text} is odd, which mp4 does not take")
    return value


video_size.__name__ = "int"
POSITIVE_INT = number(int, 1)
NON_NEGATIVE_INT = number(int, 0)
SEED = number(int, 0, 2**32 - 1)
POSITIVE = number(float, 0, open_low=True)
NON_NEGATIVE = number(float, 0)
FRACTION = number(float, 0, 1)
BELOW_ONE = number(float, 0, 1, open_high=True)
FINITE = number(float)
VIDEO_FPS = number(float, 1)


# What a resumed run may do differently; everything else would make it another run.
MAY_CHANGE = {
    *("num_train_steps", "eval_frequency", "num_eval_episodes", "checkpoint_frequency", "resume"),
    *("log_frequency", "log_save_tb", "save_video", "video_size", "video_camera", "video_fps", "video_overlay"),
    *("device", "num_threads", "compile"),
}


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

    def refuse_existing(self, paths, way_out):
        """An error if one of the files that the command would write is there already."""
        for path in paths:
            if os.path.exists(path):
                self.error(f"{path} exists; {way_out}, or name other files with --output")


def build_parser():
    """The command line: every flag of a run."""
    parser = Parser(
        usage="python train.py --env NAME [flags]",
        description="Train Soft Actor-Critic with action chunks. Steps are the agent's: one action, one step.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )

    def flag(name, kind, default, help, **options):
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = kind
            if "choices" not in options:
                options.setdefault("metavar", "N" if kind.__name__ == "int" else "X")
        group.add_argument(f"--{name}", default=default, help=help, **options)

    # fmt: off
    group = parser.add_argument_group("run")
    flag("experiment", str, "sac",
         "name of the experiment, first part of the run directory's name", metavar="NAME")
    flag("seed", SEED, 1,
         "seed of every random stream")
    flag("device", str, "auto",
         "torch device: cpu, cuda, cuda:1, mps; auto takes CUDA where there is one", metavar="NAME")
    flag("num_threads", POSITIVE_INT, None,
         "torch threads (default: 1 on a CPU with up to 512 units a layer, else all cores)")
    flag("compile", str, "auto",
         "compile the update's gradients once it has run 1,000 times: half a minute, then 1.4 times as fast; auto does "
         "so on a CPU with a C++ compiler for runs of 30,000 updates or more", choices=("auto", "on", "off"))
    flag("num_train_steps", POSITIVE_INT, 1_000_000,
         "length of the run, steps")
    flag("num_seed_steps", NON_NEGATIVE_INT, 2500,
         "random steps at the start, without updates; one action is held for chunk_size steps")
    flag("eval_frequency", POSITIVE_INT, 10_000,
         "steps between two evaluations; there is one at the end too")
    flag("num_eval_episodes", POSITIVE_INT, 10,
         "episodes of an evaluation")

    flag("checkpoint_frequency", NON_NEGATIVE_INT, 10_000,
         "steps between two checkpoints, each taken at the end of an episode; 0 takes none")
    flag("resume", str, None,
         "continue a run from its last checkpoint: its directory, or auto for the newest run under exp/ with this "
         "--experiment, --env, --chunk_size and --seed, if there is one. Flags that are not given are the run's "
         "(default: a new run)",
         metavar="DIR")

    group = parser.add_argument_group("environment")
    flag("env", str, None,
         "DM Control task (cheetah_run, ball_in_cup_catch, ...) or Gymnasium id (Pendulum-v1, HalfCheetah-v5, "
         "module:Id-v0)", metavar="NAME")
    flag("action_repeat", POSITIVE_INT, 1,
         "control steps that each action is applied for; one agent step all the same")

    group = parser.add_argument_group("chunking")
    flag("chunk_size", POSITIVE_INT, 5,
         "h: actions a plan; 1 is plain SAC")
    flag("confidence_threshold", FRACTION, 0.5,
         "a plan is executed until a confidence drops below this; 0 executes whole plans")
    flag("confidence_margin", NON_NEGATIVE, 1.0,
         "how much worse than replanning a planned step may be, as a multiple of what the critics disagree about, or of "
         "what the policy gives up for its randomness, whichever is more")
    flag("noise_correlation", BELOW_ONE, 0.8,
         "correlation of the exploration noise of neighbouring actions of a plan, at the start; 0 is independent noise")
    flag("learnable_noise_correlation", bool, True,
         "learn that correlation with the actor")
    flag("windows", str, "any",
         "replayed action prefixes: any executed actions in a row (right for deterministic dynamics), or only those "
         "committed to in one plan (right for random dynamics)", choices=("any", "committed"))
    flag("commit_epsilon", FRACTION, 0.1,
         "probability that a plan is executed to its end in training whatever its confidences")

    group = parser.add_argument_group("SAC")
    flag("discount", BELOW_ONE, 0.99,
         "discount, a step")
    flag("batch_size", POSITIVE_INT, 128,
         "windows a batch")
    flag("updates_per_step", POSITIVE, 1.0,
         "updates a step; 0.5 is one every other step")
    flag("replay_buffer_capacity", number(int, 2), 1_000_000,
         "steps that the replay buffer holds")
    flag("init_temperature", POSITIVE, 0.1,
         "temperature (alpha) at the start, reward a nat")
    flag("learnable_temperature", bool, True,
         "learn the temperature")
    flag("target_entropy", FINITE, None,
         "entropy that the temperature aims at, nats a step (default: minus the number of action dimensions)")
    for name, of in (("actor", "actor"), ("critic", "critic"), ("alpha", "temperature")):
        flag(f"{name}_lr", POSITIVE, 3e-4,
             f"Adam's learning rate, {of}")
        flag(f"{name}_betas", BELOW_ONE, (0.9, 0.999),
             f"Adam's betas, {of}", metavar=("B1", "B2"), nargs=2)
    flag("confidence_lr", POSITIVE, 1e-3,
         "Adam's learning rate, confidence head, whose betas are the actor's")
    flag("actor_update_frequency", POSITIVE_INT, 1,
         "updates between two actor, confidence and temperature updates")
    flag("critic_target_update_frequency", POSITIVE_INT, 1,
         "updates between two target critic updates")
    flag("critic_tau", number(float, 0, 1, open_low=True), 0.005,
         "share of the critic that a target update takes over")

    group = parser.add_argument_group("networks")
    flag("hidden_dim", POSITIVE_INT, 256,
         "units a hidden layer")
    flag("hidden_depth", POSITIVE_INT, 2,
         "hidden layers")
    flag("critic_layer_norm", bool, True,
         "LayerNorm in the critic's hidden layers")
    flag("actor_log_std_bounds", FINITE, (-5.0, 2.0),
         "range of the log standard deviation before the tanh", metavar=("LOW", "HIGH"), nargs=2)

    group = parser.add_argument_group("logging")
    flag("log_frequency", POSITIVE_INT, 100,
         "updates between two that enter train.csv")
    flag("log_save_tb", bool, True,
         "write TensorBoard files")
    flag("save_video", bool, True,
         "film the first episode of each evaluation")
    flag("video_size", video_size, 256,
         "pixels a side of the video (DM Control)")
    flag("video_camera", str, None,
         "camera of the video, by its name or number (DM Control; default: the task's first)", metavar="NAME")
    flag("video_fps", VIDEO_FPS, None,
         "frames per second of the video, at most one a step; it plays in real time (default: of every n-th step, with "
         "the smallest n that makes 25 or fewer)")
    flag("video_overlay", bool, True,
         "show step, return and the plan with its confidences in the video")
    # fmt: on
    return parser


def fixed_flags(flags):
    """Those of a dict of flags that make a run what it is, as JSON has them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in flags.items() if k not in MAY_CHANGE}


def parse_args(argv=None):
    """The flags of a run, checked against each other. With --resume, those not given are the run's own.

    `resume` is then the directory of the run, or None where auto has found none.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.env is None and args.resume in (None, "auto"):
        parser.error("the following argument is required: --env")
    if args.resume is not None:
        try:
            directory, saved = find_run(args)
        except UsageError as error:
            parser.error(f"argument --resume: {error}")
        args = parser.parse_args(argv, argparse.Namespace(**saved))
        args.resume = directory
        there, here = fixed_flags(saved), fixed_flags(vars(args))
        differing = [
            f"--{name} is {there[name]} there, not {here[name]}" for name in there if here[name] != there[name]
        ]
        if differing:
            parser.error(f"argument --resume: {directory} cannot go on with other flags: {', '.join(differing)}")
    if not re.fullmatch(r"[\w.-]+", args.experiment):
        parser.error("argument --experiment: only letters, digits, '.', '_' and '-' are allowed")
    for name, limit in (("num_seed_steps", "num_train_steps"), ("batch_size", "replay_buffer_capacity")):
        if getattr(args, name) > getattr(args, limit):
            parser.error(f"argument --{name}: {getattr(args, name)} is more than --{limit} {getattr(args, limit)}")
    if args.actor_log_std_bounds[0] >= args.actor_log_std_bounds[1]:
        parser.error("argument --actor_log_std_bounds: LOW must be less than HIGH")
    return args
