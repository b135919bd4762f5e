"""Play a saved run.

python evaluate.py exp/RUN                      20 episodes: a table, and exp/RUN/evaluation.json
python evaluate.py exp/RUN --video              also records the first episode: evaluation-video.mp4
python evaluate.py exp/RUN --sweep              threshold sweep: return against mean executed length
python evaluate.py exp/RUN --calibration        realised advantages against predicted ones
python evaluate.py exp/RUN --bias               Q and V of the critics against realised soft returns
"""

import argparse
import os
import signal
from contextlib import suppress

from cli import Parser
from config import FRACTION, POSITIVE_INT, SEED, VIDEO_FPS, VIDEO_SIZE
from errors import UsageError, report_errors
from storage.files import csv_bytes, json_bytes, reserved_name, write_atomically

MODES_OF_FLAGS = {  # flag: {mode that accepts it: default}
    "confidence_threshold": dict.fromkeys(("episodes", "video", "calibration")),
    "sample": dict.fromkeys(("episodes", "video", "sweep"), False),
    "video_overlay": {"video": True},
    "video_size": {"video": 256},
    "video_camera": {"video": None},
    "video_fps": {"video": None},
    "pairs": {"calibration": 2000},
    "states": {"bias": 200},
    "horizon": {"calibration": 50, "bias": 500},
}
SAMPLED = ("calibration", "bias")  # modes that sample actions, and need the critics


def parse_args(argv=None):
    """The parsed command line, with `mode`: episodes, video, sweep, calibration or bias. A mistake ends the process."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name, defaults in MODES_OF_FLAGS.items():
        if getattr(args, name) is None:
            setattr(args, name, defaults.get(args.mode))
        elif args.mode not in defaults:
            only = f"only with --{' or --'.join(defaults)}"
            way_out = f"not with --{args.mode}" if "episodes" in defaults else only
            parser.error(f"argument --{name}: {way_out}")
    if args.mode == "calibration" and args.pairs < 10:
        parser.error("argument --pairs: a calibration needs 10 or more")
    if args.output:
        from analysis.evaluation_file import ENDINGS

        parser.refuse_existing([args.output + ending for ending in ENDINGS[args.mode]], "move it")
    return args


def build_parser():
    """The parser. Flags of `MODES_OF_FLAGS` are None if they are not given."""
    parser = Parser(usage="python evaluate.py RUN_DIR [flags]", description="Play a saved run.")
    either = {"action": argparse.BooleanOptionalAction}
    # fmt: off
    flag = parser.add_argument
    flag("run_dir", metavar="RUN_DIR", help="directory of a run, exp/...")
    flag("--episodes", type=POSITIVE_INT, default=20, help="number of episodes; in a sweep, per row (default: 20)")
    flag("--seed", type=SEED, default=0, help="seed from which the episodes' seeds are made (default: 0)")
    parser.set_defaults(mode="episodes")
    only_one = parser.add_mutually_exclusive_group()
    for mode, text in (
        ("video", "record the first episode"),
        ("sweep", "play every fixed length, thresholds 0 to 1, and each threshold's lengths shuffled"),
        ("calibration", "at states inside plans, compare continuing with replanning; actions are always sampled"),
        ("bias", "compare Q and V of the critics with discounted soft returns; actions are always sampled"),
    ):
        only_one.add_argument(f"--{mode}", action="store_const", dest="mode", const=mode, help=f"{text} (default: no)")
    flag("--confidence_threshold", type=FRACTION,
         help="a plan ends before the first confidence below it (default: the run's)")
    flag("--sample", **either, help="sample actions from the policy (default: no noise)")
    flag("--video_overlay", **either, help="show step, return and plan in the video (default: yes)")
    flag("--video_size", type=VIDEO_SIZE, help="width and height of the video in pixels (default: 256)")
    flag("--video_camera", metavar="NAME", help="camera, by name or number (default: the task's first)")
    flag("--video_fps", type=VIDEO_FPS,
         help="frames per second, at most one per step (default: every n-th step, at most 25)")
    flag("--pairs", type=POSITIVE_INT, help="number of compared states of a calibration (default: 2000)")
    flag("--states", type=POSITIVE_INT, help="number of compared states of --bias (default: 200)")
    flag("--horizon", type=POSITIVE_INT, help="steps per branch (default: 50; with --bias, 500)")
    flag("--output",
         help="path of the files without .json, .csv, .mp4, .png, .svg (default: evaluation, evaluation-video, sweep, "
         "calibration or bias in RUN_DIR, with a number if it exists)")
    # fmt: on
    return parser


def load(args):
    """(agent, environment, Config, steps of training) of the run.

    Raises:
        UsageError: the run cannot be played, or not in this mode.
    """
    from envs import rendering

    if args.mode == "video":
        rendering.choose_renderer()
    else:
        rendering.disable_rendering()
    import torch

    import video
    from analysis.saved_run import load_run
    from envs import CameraError, EnvError, make_env

    torch.set_num_threads(1)
    try:
        agent, config, step = load_run(args.run_dir, with_critics=args.mode in SAMPLED)
        env = make_env(config.env, config.action_repeat, args.video_size, args.video_camera)
    except EnvError as error:
        raise UsageError(f"{args.run_dir}: {error}") from error
    except CameraError as error:
        raise UsageError(f"argument --video_camera: {error}") from error
    if args.mode == "calibration" and config.chunk_size == 1:
        raise UsageError(f"argument --calibration: {args.run_dir} has plans of one action, so no confidences")
    if args.mode == "bias" and args.horizon < config.chunk_size:
        h = config.chunk_size
        raise UsageError(f"argument --horizon: {args.run_dir} has plans of {h} actions, so {h} steps or more")
    try:
        video.check_fps(env, args.video_fps)
    except ValueError as error:
        raise UsageError(f"argument --video_fps: {error}") from error
    if args.mode == "video" and (problem := video.probe_video(env, args.video_overlay)):
        raise UsageError(f"argument --video: {problem}")
    return agent, env, config, step


def run(args):
    """Play the run, print the results and write them.

    After Ctrl-C, SIGTERM or an error the results so far are written, with "complete": false.

    Raises:
        UsageError: the run cannot be played, or not in this mode, or nothing can be written there.
        RunError: a value is not finite, or a result cannot be written.
    """
    agent, env, config, step = load(args)
    from analysis import evaluation_file
    from analysis.style import save_figure
    from rollout import episode_seed

    endings = evaluation_file.ENDINGS[args.mode]
    output = args.output or os.path.join(args.run_dir, evaluation_file.NAMES[args.mode])
    threshold = config.confidence_threshold if args.confidence_threshold is None else args.confidence_threshold
    result = {
        "title": f"{config.env}, seed {config.seed}, step {step}",
        "complete": False,
        "run_dir": args.run_dir,
        "step": step,
        "episodes": args.episodes,
        "seed": args.seed,
        "sample": args.sample or args.mode in SAMPLED,
        "confidence_threshold": threshold,
    }
    seeds = [episode_seed(args.seed, episode) for episode in range(args.episodes)]
    modes = {"sweep": play_sweep, "calibration": play_calibration, "bias": play_bias}
    play = modes.get(args.mode, play_episodes)
    known = set(result)
    with reserved_name(output, endings) as output:
        print(f"{args.run_dir}: {config.env}, step {step}, {args.episodes} episodes", flush=True)
        try:
            figure = play(result, args, output, agent, env, config, seeds)
            result["complete"] = True
        finally:
            if set(result) != known:  # there are results
                write_atomically(f"{output}.json", json_bytes(result))
                if not result["complete"]:
                    with suppress(OSError):  # of stdout; it must not hide why this ends
                        print(f"wrote {output}.json, incomplete", flush=True)
        if figure:
            save_figure(figure, output)
    for ending in endings:
        if os.path.exists(output + ending):
            print(f"wrote {output}{ending}")


def play_episodes(result, args, output, agent, env, config, seeds):
    """Play and print each episode; record the first one in video mode. Adds to result; returns no figure."""
    from agent.chunking import by_confidence
    from analysis.statistics import interval_text, mean_interval_name, summary
    from rollout import play_each

    threshold = result["confidence_threshold"]
    path = f"{output}.mp4" if args.mode == "video" else None
    shown = threshold if args.video_overlay else None
    returns, lengths = [], []
    print(f"{'episode':>8} {'return':>10} {'mean k':>7}", flush=True)
    for value, ks in play_each(agent, env, seeds, by_confidence(threshold), args.sample, path, shown, args.video_fps):
        returns.append(value)
        lengths.append(ks)
        result |= summary(returns, lengths)
        result |= {"episodes": len(returns), "interval": mean_interval_name(len(returns))}
        print(f"{len(returns):8} {value:10.2f} {result['ks'][-1]:7.2f}", flush=True)
    interval = f"{result['interval']} {interval_text(result['return_low'], result['return_high'])}".strip()
    print(f"{'mean':>8} {result['return']:10.2f} {result['k']:7.2f}   {interval}".rstrip())


def play_sweep(result, args, output, agent, env, config, seeds):
    """Play and print the rows of a threshold sweep. Adds them to result; returns its figure."""
    from analysis import threshold_sweep
    from analysis.statistics import mean_interval_name

    rows = []
    print(threshold_sweep.header(args.episodes), flush=True)
    for row in threshold_sweep.rows(agent, env, seeds, config.chunk_size, args.sample):
        rows.append(row)
        result |= {"interval": mean_interval_name(args.episodes), "rows": rows}
        print(threshold_sweep.line(row), flush=True)
    return threshold_sweep.draw(result)


def play_calibration(result, args, output, agent, env, config, seeds):
    """Play a calibration, write its pairs as CSV, print its report. Adds to result; returns its figure."""
    from agent.chunking import by_confidence
    from analysis import calibration

    rule, pairs = by_confidence(result["confidence_threshold"]), []
    try:
        for pair in calibration.pairs(agent, env, seeds, rule, config.discount, args.horizon, args.pairs):
            if not pairs or pair["episode"] > pairs[-1]["episode"]:
                print(f"episode {pair['episode']}, {len(pairs)} of {args.pairs} pairs done", flush=True)
            pairs.append(pair)
        report = calibration.report(pairs)
    finally:
        if pairs:
            result |= {"episodes": pairs[-1]["episode"], "horizon": args.horizon, "num_pairs": len(pairs)}
            write_atomically(f"{output}.csv", csv_bytes(calibration.csv_rows(pairs)))
    result |= report
    print(calibration.table(result))
    return calibration.draw(result)


def play_bias(result, args, output, agent, env, config, seeds):
    """Compare values, write the states as CSV, print the report. Adds it to result; returns no figure."""
    from agent.chunking import by_confidence
    from analysis import bias

    rule, rows = by_confidence(result["confidence_threshold"]), []
    try:
        for row in bias.states(agent, env, seeds, rule, args.horizon, args.states):
            if not rows or row["episode"] > rows[-1]["episode"]:
                print(f"episode {row['episode']}, {len(rows)} of {args.states} states done", flush=True)
            rows.append(row)
    finally:
        if rows:
            result |= {"episodes": rows[-1]["episode"], "horizon": args.horizon, "alpha": float(agent.alpha)}
            result |= bias.report(rows, config.chunk_size)
            write_atomically(f"{output}.csv", csv_bytes(rows))
            with suppress(OSError):  # of stdout; it must not hide why this ends
                print(bias.table(result))


def main():
    """The command."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    with report_errors():
        run(parse_args())


def interrupt(number, _):
    """End the playing. Another signal of this kind does not stop the writing of the results."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    main()
