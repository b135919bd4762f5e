"""Play what train.py has trained.

python evaluate.py exp/RUN                      20 episodes: a table, and exp/RUN/evaluation.json
python evaluate.py exp/RUN --video              record the first one, too: evaluation-video.mp4
python evaluate.py exp/RUN --sweep              return against mean k, learned, fixed and shuffled lengths
python evaluate.py exp/RUN --calibration        what continuing a plan changes, against what was predicted
"""

import argparse
import os

from cli import Parser
from config import FRACTION, POSITIVE_INT, SEED, VIDEO_FPS, VIDEO_SIZE
from errors import RunError, UsageError, report_errors

# What each flag counts for, and its default.
MODES_OF_FLAGS = {
    "confidence_threshold": (("episodes", "video", "calibration"), None),
    "sample": (("episodes", "video", "sweep"), False),
    "video_overlay": (("video",), True),
    "video_size": (("video",), 256),
    "video_camera": (("video",), None),
    "video_fps": (("video",), None),
    "pairs": (("calibration",), 2000),
    "horizon": (("calibration",), 50),
}


def parse_args(argv=None):
    """The command line; `mode` is episodes, video, sweep or calibration, `output` None where it was not given."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.video + args.sweep + args.calibration > 1:
        parser.error("argument --video, --sweep or --calibration: only one of them at a time")
    args.mode = next((mode for mode in ("video", "sweep", "calibration") if getattr(args, mode)), "episodes")
    for name, (modes, default) in MODES_OF_FLAGS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif args.mode not in modes:
            way_out = f"only with --{modes[0]}" if len(modes) == 1 else f"not with --{args.mode}"
            parser.error(f"argument --{name}: {way_out}")
    if args.calibration and args.pairs < 10:
        parser.error("argument --pairs: a calibration needs 10 or more")
    if args.output:
        from analysis.evaluation_file import ENDINGS

        parser.refuse_existing([args.output + ending for ending in ENDINGS[args.mode]], "move it")
    return args


def build_parser():
    """All flags; those of `MODES_OF_FLAGS` are None where they are not given."""
    parser = Parser(usage="python evaluate.py RUN_DIR [flags]", description="Play a saved run.")
    either = {"action": argparse.BooleanOptionalAction}
    # fmt: off
    flag = parser.add_argument
    flag("run_dir", metavar="RUN_DIR", help="directory of a run, exp/...")
    flag("--episodes", type=POSITIVE_INT, default=20, help="episodes, for a sweep per row (default: 20)")
    flag("--seed", type=SEED, default=0, help="seed of the episodes (default: 0)")
    flag("--confidence_threshold", type=FRACTION, help="a plan ends below it (default: the run's)")
    flag("--sample", **either, help="draw actions from the policy (default: mode)")
    flag("--video", default=False, **either, help="record the first episode (default: no)")
    flag("--video_overlay", **either, help="show the plan (default: yes)")
    flag("--video_size", type=VIDEO_SIZE, help="pixels per side (default: 256)")
    flag("--video_camera", metavar="NAME", help="camera, by name or number (default: the task's first)")
    flag("--video_fps", type=VIDEO_FPS,
         help="frames per second, at most one per step, in real time (default: of every n-th step, at most 25)")
    flag("--sweep", action="store_true",
         help="every fixed length, thresholds over [0, 1], and each threshold's lengths shuffled (default: no)")
    flag("--calibration", action="store_true",
         help="branch the simulator inside plans: continue, or replan; actions are always drawn (default: no)")
    flag("--pairs", type=POSITIVE_INT, help="pairs of branches, for a calibration (default: 2000)")
    flag("--horizon", type=POSITIVE_INT, help="steps of a branch (default: 50)")
    flag("--output",
         help="files are called this and .json, .csv, .mp4, .png, .svg (default: evaluation, evaluation-video, sweep "
         "or calibration in RUN_DIR, with a number if that exists)")
    # fmt: on
    return parser


def load(args):
    """(agent, environment, Config, step) of the run.

    Raises:
        UsageError: it cannot be played, or not in this way.
    """
    from envs import rendering

    if args.video:
        rendering.choose_renderer()
    else:
        rendering.disable_rendering()
    import torch

    import video
    from analysis.saved_run import load_run
    from envs import CameraError, EnvError, make_env

    torch.set_num_threads(1)
    try:
        agent, config, step = load_run(args.run_dir, with_critics=args.calibration)
        size = args.video_size if args.video else None
        env = make_env(config.env, config.action_repeat, size, args.video_camera)
    except EnvError as error:
        raise UsageError(f"{args.run_dir}: {error}") from error
    except CameraError as error:
        raise UsageError(f"argument --video_camera: {error}") from error
    if args.calibration and config.chunk_size == 1:
        raise UsageError(f"argument --calibration: {args.run_dir} has plans of one action, so no confidences")
    try:
        video.check_fps(env, args.video_fps)
    except ValueError as error:
        raise UsageError(f"argument --video_fps: {error}") from error
    if args.video and (problem := video.probe_video(env, args.video_overlay)):
        raise UsageError(f"argument --video: {problem}")
    return agent, env, config, step


def run(args):
    """Play, print and write. What was played before Ctrl-C or an error is written as not complete.

    Raises:
        UsageError: the directory cannot be played.
        RunError: what is played is not finite, or a result cannot be written.
    """
    agent, env, config, step = load(args)
    from analysis import evaluation_file
    from analysis.style import save_figure
    from rollout import episode_seed
    from storage.files import check_writable, free_name

    endings = evaluation_file.ENDINGS[args.mode]
    default = os.path.join(args.run_dir, evaluation_file.NAMES[args.mode])
    output = args.output or free_name(default, endings)
    check_writable(f"{output}.json")
    threshold = config.confidence_threshold if args.confidence_threshold is None else args.confidence_threshold
    result = {
        "title": f"{config.env}, seed {config.seed}, step {step}",
        "complete": False,
        "run_dir": args.run_dir,
        "step": step,
        "episodes": args.episodes,
        "seed": args.seed,
        "sample": args.sample or args.calibration,
        "confidence_threshold": threshold,
    }
    print(f"{args.run_dir}: {config.env}, step {step}, {args.episodes} episodes", flush=True)
    seeds = [episode_seed(args.seed, episode) for episode in range(args.episodes)]
    play = {"sweep": play_sweep, "calibration": play_calibration}.get(args.mode, play_episodes)
    known = set(result)
    try:
        figure = play(result, args, output, agent, env, config, seeds)
        result["complete"] = True
    finally:
        if set(result) != known:  # something was played
            evaluation_file.write(output, result)
            if not result["complete"]:
                print(f"wrote {output}.json, not complete", flush=True)
    if figure:
        save_figure(figure, output)
    for ending in endings:
        if os.path.exists(output + ending):
            print(f"wrote {output}{ending}")


def play_episodes(result, args, output, agent, env, config, seeds):
    """Play each episode and print it; record the first if that is wanted."""
    from agent.chunking import by_confidence
    from analysis.statistics import interval_text, mean_interval_name, summary
    from rollout import play_each

    threshold = result["confidence_threshold"]
    path = f"{output}.mp4" if args.video else None
    shown = threshold if args.video_overlay else None
    returns, lengths = [], []
    print(f"{'episode':>8} {'return':>10} {'mean k':>7}", flush=True)
    for value, ks in play_each(agent, env, seeds, by_confidence(threshold), args.sample, path, shown, args.video_fps):
        returns.append(value)
        lengths.append(ks)
        result |= summary(returns, lengths) | {"episodes": len(returns)}
        print(f"{len(returns):8} {value:10.2f} {result['ks'][-1]:7.2f}", flush=True)
    result["interval"] = mean_interval_name(len(returns))
    interval = f"{result['interval']} {interval_text(result['return_low'], result['return_high'])}".strip()
    print(f"{'mean':>8} {result['return']:10.2f} {result['k']:7.2f}   {interval}".rstrip())


def play_sweep(result, args, output, agent, env, config, seeds):
    """The threshold sweep: its rows, printed as they come; its picture."""
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
    """The calibration: its pairs as CSV and its report, printed; its picture."""
    from agent.chunking import by_confidence
    from analysis import calibration
    from storage.files import write_atomically

    rule, pairs = by_confidence(result["confidence_threshold"]), []
    try:
        for pair in calibration.pairs(agent, env, seeds, rule, config.discount, args.horizon, args.pairs):
            if not pairs or pair["episode"] > pairs[-1]["episode"]:
                print(f"episode {pair['episode']}, {len(pairs)} of {args.pairs} pairs done", flush=True)
            pairs.append(pair)
        report = calibration.report(pairs)
        result |= {"horizon": args.horizon, **report}
    except (KeyboardInterrupt, RunError):
        if pairs:
            result |= {"horizon": args.horizon, "num_pairs": len(pairs)}
        raise
    finally:
        if "num_pairs" in result:
            write_atomically(f"{output}.csv", calibration.csv_text(pairs).encode())
    print(calibration.table(result))
    return calibration.draw(result)


def main():
    """The command line; every error is one sentence."""
    with report_errors():
        run(parse_args())


if __name__ == "__main__":
    main()
