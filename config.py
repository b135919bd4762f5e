"""Every hyperparameter and flag of a run, each declared once, as a field of `Config`.

The command line, args.json, the checks of saved values and docs/flags.md are generated from the fields. To add a
hyperparameter, add a field here and read `config.NAME` where it takes effect.
"""

import dataclasses
import math
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass

from errors import UsageError

REQUIRED = dataclasses.MISSING  # value of `before` for a flag without which no run is read


class Number:
    """A finite int or float in an interval. An argparse type, and a check of saved values.

    Args:
        kind: int or float; 1e6 is accepted as an int.
        low, high: bounds of the interval.
        open_low, open_high: whether the bound itself is excluded.
        even: whether only even numbers are accepted.
    """

    def __init__(self, kind, low=-math.inf, high=math.inf, open_low=False, open_high=False, even=False):
        self.kind, self.low, self.high, self.open_low, self.open_high = kind, low, high, open_low, open_high
        self.even = even
        self.__name__ = kind.__name__  # argparse names the type in "invalid int value"
        self.metavar = "N" if kind is int else "X"

    def __call__(self, text):
        return self.check(float(text), text)

    def __str__(self):
        left = "(" if self.open_low or self.low == -math.inf else "["
        right = ")" if self.open_high or self.high == math.inf else "]"
        return f"{left}{self.low:.10g}, {self.high:.10g}{right}"

    def check(self, value, text=None):
        """The value, converted to `kind`.

        Args:
            value: int or float.
            text: what to show in the message instead of value.

        Raises:
            ArgumentTypeError: value is not a number of this kind, or is outside the interval.
        """
        text = value if text is None else text
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentTypeError(f"{text!r} is not a number")
        if not math.isfinite(value):
            raise ArgumentTypeError(f"{text} is not in {self}")
        if self.kind is int and value != int(value):
            raise ArgumentTypeError(f"{text} is not a whole number")
        value = self.kind(value)
        below = value <= self.low if self.open_low else value < self.low
        above = value >= self.high if self.open_high else value > self.high
        if below or above:
            raise ArgumentTypeError(f"{text} is not in {self}")
        if self.even and value % 2:
            raise ArgumentTypeError(f"{text} is odd; mp4 needs an even size")
        return value


class Name:
    """A string. An argparse type, and a check of saved values.

    Args:
        pattern: regular expression that the whole string must match.
        described: the allowed strings, in words for the error message.
    """

    metavar = "NAME"

    def __init__(self, pattern=".+", described="strings of at least one character"):
        self.pattern, self.described = pattern, described

    def __call__(self, text):
        return self.check(text)

    def __str__(self):
        return "text"

    def check(self, value):
        """The value itself.

        Raises:
            ArgumentTypeError: value is not a string that matches.
        """
        if not (isinstance(value, str) and re.fullmatch(self.pattern, value)):
            raise ArgumentTypeError(f"{value!r} is not allowed, {self.described} are")
        return value


class Choice(Name):
    """One of the given strings."""

    def __init__(self, *choices):
        super().__init__("|".join(choices), f"only {' or '.join(choices)}")
        self.choices, self.metavar = choices, "|".join(choices)

    def __str__(self):
        return ", ".join(self.choices)


class Switch:
    """A bool; on the command line --NAME and --no-NAME."""

    @staticmethod
    def check(value):
        """The value itself.

        Raises:
            ArgumentTypeError: value is not a bool.
        """
        if not isinstance(value, bool):
            raise ArgumentTypeError(f"{value!r} is not true or false")
        return value

    def __str__(self):
        return "switch"


POSITIVE_INT = Number(int, 1)
NON_NEGATIVE_INT = Number(int, 0)
SEED = Number(int, 0, 2**32 - 1)
POSITIVE = Number(float, 0, open_low=True)
NON_NEGATIVE = Number(float, 0)
FRACTION = Number(float, 0, 1)
BELOW_ONE = Number(float, 0, 1, open_high=True)
FINITE = Number(float)
VIDEO_FPS = Number(float, 1)
# Upper bounds that only a typing error exceeds.
VIDEO_SIZE = Number(int, 16, 4096, even=True)
NUM_THREADS = Number(int, 1, 1024)
HIDDEN_DIM = Number(int, 1, 16_384)
HIDDEN_DEPTH = Number(int, 1, 64)
BATCH_SIZE = Number(int, 1, 2**20)
FILE_NAME = Name(r"[\w-][\w.-]*", "only letters, digits, '_', '-', and after the first character '.',")
SWITCH = Switch()


def flag(group, default, kind, help, unit=None, resumable=False, before=REQUIRED, nargs=None):
    """A field of `Config`.

    Args:
        group: heading in --help and in the table of flags.
        default: the default; with None, the help says what happens.
        kind: Number, Name, Choice or Switch, with type and bounds.
        help: one clause.
        unit: unit of the value, or None.
        resumable: whether a resumed run may have another value.
        before: the value with which a run behaves as before this flag existed; used where args.json lacks the flag.
        nargs: names of the values, for a flag that takes several; else None.
    """
    metadata = dict(group=group, kind=kind, help=help, unit=unit, resumable=resumable, before=before, nargs=nargs)
    return dataclasses.field(default=default, metadata=metadata)


# fmt: off
@dataclass(frozen=True)
class Config:
    """The values of all flags of a run."""

    experiment: str = flag("run", "sac", FILE_NAME, "name of the experiment, first part of the run directory's name")
    seed: int = flag("run", 1, SEED, "seed of every random stream")
    device: str = flag(
        "run", "auto", Name(), "torch device: cpu, cuda, cuda:1, mps; auto is CUDA if available, else cpu",
        resumable=True)
    num_threads: int | None = flag(
        "run", None, NUM_THREADS, "torch threads (default: 1 on a CPU with up to 512 units per layer, else all cores)",
        resumable=True)
    compile: str = flag(
        "run", "auto", Choice("auto", "on", "off"),
        "compile the update after 1,000 of them: takes a minute or two, then they are 1.5 to 1.9 times as fast; auto "
        "is on for runs of 30,000 updates or more on a CPU with a C++ compiler",
        resumable=True)
    fast_path: bool = flag(
        "run", True, SWITCH,
        "fused optimizers, and with --compile one compiled function per update; off runs the plain reference",
        resumable=True)
    num_train_steps: int = flag("run", 1_000_000, Number(int, 1, 1e12), "steps of the run", "steps", resumable=True)
    num_seed_steps: int = flag(
        "run", 2500, NON_NEGATIVE_INT,
        "random steps at the start, without updates; one action is held for chunk_size steps", "steps")
    eval_frequency: int = flag(
        "run", 10_000, POSITIVE_INT, "interval of evaluations; the end of the run is evaluated too", "steps",
        resumable=True)
    num_eval_episodes: int = flag("run", 10, POSITIVE_INT, "episodes per evaluation", resumable=True)
    checkpoint_frequency: int = flag(
        "run", 10_000, NON_NEGATIVE_INT,
        "interval of checkpoints, each at the next end of an episode; 0 for none", "steps", resumable=True)

    env: str = flag(
        "environment", None, Name(),
        "DM Control task (cheetah_run, ball_in_cup_catch, ...) or Gymnasium id (Pendulum-v1, HalfCheetah-v5, "
        "module:Id-v0)")
    action_repeat: int = flag(
        "environment", 1, POSITIVE_INT, "control steps per action; together they count as one step")

    chunk_size: int = flag("chunking", 5, POSITIVE_INT, "h: actions per plan; 1 is SAC")
    confidence_threshold: float = flag(
        "chunking", 0.5, FRACTION,
        "a plan ends before the first action whose confidence is below this; 0 executes whole plans")
    confidence_margin: float = flag(
        "chunking", 1.0, NON_NEGATIVE,
        "factor of delta, the loss against replanning that still counts as none: delta = confidence_margin * "
        "max(disagreement of the critics, alpha A / 2), A the number of action dimensions")
    windows: str = flag(
        "chunking", "any", Choice("any", "committed"),
        "replayed windows: any consecutive actions (valid for deterministic dynamics), or only actions of "
        "one plan (valid for random dynamics too)")
    commit_epsilon: float = flag(
        "chunking", 0.1, FRACTION,
        "probability that training executes a whole plan, whatever its confidences")

    discount: float = flag("SAC", 0.99, BELOW_ONE, "discount factor", "per step")
    batch_size: int = flag("SAC", 128, BATCH_SIZE, "windows per batch")
    updates_per_step: float = flag(
        "SAC", 1.0, Number(float, 0, 1000, open_low=True), "updates per step; 0.5 is one update every second step")
    replay_buffer_capacity: int = flag(
        "SAC", 1_000_000, Number(int, 2, 1e12),
        "capacity of the replay buffer: one row per step and one per episode, or up to chunk_size - 1 per episode that "
        "terminates", "rows")
    init_temperature: float = flag("SAC", 0.1, POSITIVE, "initial temperature (alpha)", "reward per nat")
    learnable_temperature: bool = flag("SAC", True, SWITCH, "learn the temperature")
    target_entropy: float | None = flag(
        "SAC", None, FINITE,
        "target entropy of the temperature (default: minus the number of action dimensions)", "nats per step")
    actor_lr: float = flag("SAC", 1e-3, POSITIVE, "Adam's learning rate, actor")
    actor_betas: tuple = flag("SAC", (0.9, 0.999), BELOW_ONE, "Adam's betas, actor", nargs=("B1", "B2"))
    critic_lr: float = flag("SAC", 1e-3, POSITIVE, "Adam's learning rate, critic")
    critic_betas: tuple = flag("SAC", (0.9, 0.999), BELOW_ONE, "Adam's betas, critic", nargs=("B1", "B2"))
    alpha_lr: float = flag("SAC", 1e-3, POSITIVE, "Adam's learning rate, temperature")
    alpha_betas: tuple = flag("SAC", (0.9, 0.999), BELOW_ONE, "Adam's betas, temperature", nargs=("B1", "B2"))
    confidence_lr: float = flag(
        "SAC", 1e-3, POSITIVE, "Adam's learning rate, confidence head; its betas are the actor's")
    actor_update_frequency: int = flag(
        "SAC", 1, POSITIVE_INT, "interval of actor, confidence and temperature updates", "updates")
    critic_target_update_frequency: int = flag("SAC", 1, POSITIVE_INT, "interval of target critic updates", "updates")
    critic_tau: float = flag(
        "SAC", 0.01, Number(float, 0, 1, open_low=True), "weight of the critic in an update of the target critic")

    normalize_observations: bool = flag(
        "networks", True, SWITCH,
        "normalise observations by the running mean and variance of all that training has seen, clipped to 10 standard "
        "deviations")
    hidden_dim: int = flag("networks", 256, HIDDEN_DIM, "units per hidden layer")
    hidden_depth: int = flag("networks", 2, HIDDEN_DEPTH, "hidden layers")
    critic_layer_norm: bool = flag("networks", True, SWITCH, "LayerNorm in the critic's hidden layers")
    actor_log_std_bounds: tuple = flag(
        "networks", (-5.0, 2.0), FINITE, "range of the log standard deviation before the tanh", nargs=("LOW", "HIGH"))

    log_frequency: int = flag(
        "logging", 100, POSITIVE_INT, "interval of the updates that train.csv averages", "updates", resumable=True)
    log_save_tb: bool = flag("logging", True, SWITCH, "write TensorBoard files", resumable=True)
    save_video: bool = flag("logging", True, SWITCH, "record the first episode of each evaluation", resumable=True)
    video_size: int = flag(
        "logging", 256, VIDEO_SIZE, "width and height of the video (DM Control)", "pixels", resumable=True)
    video_camera: str | None = flag(
        "logging", None, Name(),
        "camera of the video, by its name or number (DM Control; default: the task's first)", resumable=True)
    video_fps: float | None = flag(
        "logging", None, VIDEO_FPS,
        "frame rate of the video, which plays in real time; at most one frame per step (default: every n-th step, "
        "with the smallest n that gives at most 25)", "frames per second", resumable=True)
    video_overlay: bool = flag(
        "logging", True, SWITCH, "show step, return and the plan with its confidences in the video", resumable=True)
# fmt: on


FLAGS = {field.name: field for field in dataclasses.fields(Config)}


def parse_saved(values):
    """A `Config` from the flags in args.json or policy.pt, with the bounds of the command line.

    Args:
        values: {name: value}, as read from JSON. Missing flags get their `before`.

    Raises:
        ValueError: a flag is missing, unknown, or has a value that the command line would refuse.
    """
    unknown = sorted(values.keys() - FLAGS.keys())
    if unknown:
        raise ValueError(f"--{unknown[0]} is a flag of another version")
    result = {}
    for name, field in FLAGS.items():
        if name not in values and field.metadata["before"] is REQUIRED:
            raise ValueError(f"--{name} is missing")
        value = values.get(name, field.metadata["before"])
        try:
            result[name] = _check(field, value)
        except ArgumentTypeError as error:
            raise ValueError(f"--{name}: {error}") from error
    return Config(**result)


def _check(field, value):
    kind, nargs = field.metadata["kind"], field.metadata["nargs"]
    if value is None and field.default is None and field.name != "env":
        return None
    if not nargs:
        return kind.check(value)
    if not (isinstance(value, list | tuple) and len(value) == len(nargs)):
        raise ArgumentTypeError(f"{value!r} is not {len(nargs)} numbers")
    return tuple(kind.check(part) for part in value)


def check_together(config):
    """Check flags that depend on each other.

    Raises:
        UsageError: two flags contradict each other, or LOW is not less than HIGH.
    """
    # A short run that only keeps the default is no mistake.
    is_default = config.num_seed_steps == FLAGS["num_seed_steps"].default
    if config.num_seed_steps > config.num_train_steps and not is_default:
        limit = f"--num_train_steps {config.num_train_steps}"
        raise UsageError(f"argument --num_seed_steps: {config.num_seed_steps} is more than {limit}")
    if config.batch_size > config.replay_buffer_capacity:
        raise UsageError(
            f"argument --batch_size: {config.batch_size} is more than --replay_buffer_capacity "
            f"{config.replay_buffer_capacity}"
        )
    if config.actor_log_std_bounds[0] >= config.actor_log_std_bounds[1]:
        raise UsageError("argument --actor_log_std_bounds: LOW must be less than HIGH")


def as_json(config):
    """{name: value} for args.json, with lists instead of tuples."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def _plain(value):
    """A list instead of a tuple: JSON has no tuples."""
    return list(value) if isinstance(value, tuple) else value


def distinguishing_flags(config):
    """{name: plain value} of what tells a run apart: env, seed, chunk_size, and what is not at its default.

    How a run is carried out (the flags of group "run") is left out.
    """
    default, names = as_json(Config(env=config.env)), ("env", "seed", "chunk_size")
    return {
        name: value
        for name, value in as_json(config).items()
        if name in names or (FLAGS[name].metadata["group"] != "run" and value != default[name])
    }


def differing_flags(saved, config):
    """One clause per flag that differs from the saved one and may not change when a run is resumed.

    Args:
        saved: {name: value} of the run, as read from JSON. Missing flags count as their `before`.
        config: `Config`.
    """
    sentences = []
    for name, here in as_json(config).items():
        data = FLAGS[name].metadata
        there = saved.get(name, _plain(data["before"]))
        if there is REQUIRED:
            sentences.append(f"--{name} is not saved")
        elif there != here and not data["resumable"]:
            sentences.append(f"--{name} is saved as {there}, not {here}")
    return sentences
