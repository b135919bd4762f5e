"""Command lines: a parser that reports a mistake in one sentence, and train.py's flags, from config.py."""

import argparse
import difflib
import os
import re
import sys

from config import FLAGS, Config, Name, Switch, as_json, check_together, differing_flags
from errors import UsageError
from storage.run_dir import find_run, read_config


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to each help text, unless it is None: then the text itself explains it."""

    def __init__(self, prog):
        super().__init__(prog, max_help_position=36)

    def _get_help_string(self, action):
        return action.help if action.default in (None, argparse.SUPPRESS) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, exit status 2, instead of the whole usage. Flags cannot be abbreviated."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)
        # argparse would read -1e1 as a flag.
        self._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists all flags)\n")

    def parse_args(self, args=None, namespace=None):
        """As `argparse.ArgumentParser.parse_args`; the error for an unknown flag suggests a similar one."""
        args = sys.argv[1:] if args is None else list(args)
        for word in args:
            if re.fullmatch(r"--\w+=--", word):  # on these argparse of Python 3.11 raises ValueError
                self.error(f"argument {word[:-3]}: expected one argument")
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name.replace("-", "_"), self._names(), n=1)
            hint = f"; did you mean {self._names()[near[0]]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return namespace

    def refuse_existing(self, paths, way_out):
        """End with an error if one of paths exists.

        Args:
            paths: files that the command would write.
            way_out: what else the user can do, for the message.
        """
        for path in paths:
            if os.path.exists(path):
                self.error(f"{path} exists; {way_out}, or name other files with --output")

    def _names(self):
        return {name.replace("-", "_"): name for name in self._option_string_actions}


def train_parser():
    """The command line of train.py: every flag of config.py, and --resume."""
    parser = Parser(
        usage="python train.py --env NAME [flags]",
        description="Train Soft Actor-Critic with action chunks. A step is one action of the agent.",
        formatter_class=HelpFormatter,
    )
    groups = {}
    for name, field in FLAGS.items():
        kind, nargs, help = (field.metadata[key] for key in ("kind", "nargs", "help"))
        unit = field.metadata["unit"]
        options = {"default": field.default, "help": f"{help} [{unit}]" if unit else help}
        if isinstance(kind, Switch):
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": kind, "metavar": nargs or kind.metavar, "nargs": len(nargs) if nargs else None}
        group = field.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(f"--{name}", **options)
    groups["run"].add_argument(
        "--resume",
        metavar="DIR",
        type=Name(),
        help="continue the run in this directory from its last checkpoint; auto: the newest run under exp/ with this "
        "--experiment, --env, --chunk_size and --seed, or a new run if there is none. Flags that are not given are "
        "the run's (default: a new run)",
    )
    return parser


def parse_train_args(argv=None):
    """The command line of train.py. With --resume, flags that are not given are the run's own.

    Returns:
        (Config, directory of the run to resume or None).

    A mistake ends the process with exit status 2.
    """
    parser = train_parser()
    args = parser.parse_args(argv)
    if args.env is None and args.resume in (None, "auto"):
        parser.error("the following argument is required: --env")
    run_dir = None
    if args.resume is not None:
        try:
            run_dir = find_run(_config(args)) if args.resume == "auto" else args.resume
            saved = read_config(run_dir) if run_dir else None
        except UsageError as error:
            parser.error(f"argument --resume: {error}")
        if run_dir:
            args = parser.parse_args(argv, argparse.Namespace(**vars(saved)))
            if differing := differing_flags(as_json(saved), _config(args)):
                there = f"argument --resume: {run_dir} cannot be continued with other flags"
                parser.error(f"{there}: {', '.join(differing)}")
    config = _config(args)
    try:
        check_together(config)
    except UsageError as error:
        parser.error(str(error))
    return config, run_dir


def _config(args):
    values = {name: getattr(args, name) for name in FLAGS}
    return Config(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def flag_table():
    """The text of docs/flags.md."""
    lines = [
        "# Flags of train.py",
        "",
        "Generated from config.py by `python cli.py > docs/flags.md`. A resumed run may change the flags marked",
        "with *, and no others.",
    ]
    group = None
    for name, field in FLAGS.items():
        data = field.metadata
        if data["group"] != group:
            group = data["group"]
            lines += ["", f"## {group}", "", "| flag | default | values | unit | |", "|---|---|---|---|---|"]
        default = "" if field.default is None else " ".join(map(str, _as_tuple(field.default)))
        values = str(data["kind"]).replace("|", "\\|")
        star = "*" if data["resumable"] else ""
        lines.append(f"| `--{name}`{star} | {default} | {values} | {data['unit'] or ''} | {data['help']} |")
    return "\n".join([*lines, "", "`--resume DIR` continues a run; see docs/runs.md."])


def _as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


if __name__ == "__main__":
    print(flag_table())
