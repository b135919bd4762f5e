"""Plays what train.py has trained.

python evaluate.py exp/RUN                      20 episodes: a table, and exp/RUN/evaluation.json
python evaluate.py exp/RUN --video              films the first one, too
python evaluate.py exp/RUN --sweep              return against mean k, learned, fixed and shuffled lengths
python evaluate.py exp/RUN --calibration        what continuing a plan really changes, against what was predicted
"""

import argparse
import json
import os

from analysis.style import save_figure
from cli import Parser
from config import FRACTION, POSITIVE_INT, SEED, VIDEO_FPS, VIDEO_SIZE
from errors import UsageError, report_errors
from storage.files import write_atomically


def parse_args(argv=None):
    """The command line."""
    parser = Parser(usage="python evaluate.py RUN_DIR [flags]", description="Play a saved run.")
    parser.add_argument("run_dir", metavar="RUN_DIR", help="directory of a run, exp/...")
    parser.add_argument(
        "--episodes", type=POSITIVE_INT, default=20, help="episodes, for a sweep of each row (default: 20)"
    )
    parser.add_argument("--seed", type=SEED, default=0, help="seed of the episodes (default: 0)")
    parser.add_argument("--confidence_threshold", type=FRACTION, help="a plan ends below it (default: the run's)")
    parser.add_argument(
        "--sample",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="draw actions from the policy (default: mode)",
    )
    parser.add_argument(
        "--video", action=argparse.BooleanOptionalAction, default=False, help="film the first episode (default: no)"
    )
    parser.add_argument(
        "--video_overlay", action=argparse.BooleanOptionalAction, default=True, help="show the plan (default: yes)"
    )
    parser.add_argument("--video_size", type=VIDEO_SIZE, default=256, help="pixels a side (default: 256)")
    parser.add_argument("--video_camera", metavar="NAME", help="camera, by name or number (default: the task's first)")
    parser.add_argument(
        "--video_fps",
        type=VIDEO_FPS,
        help="frames per second, at most one a step, in real time (default: of every n-th step, at most 25)",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="every fixed length, thresholds over [0, 1], and each threshold's lengths shuffled (default: no)",
    )
    parser.add_argument(
        "--calibration",
        action="store_true",
        help="branch the simulator inside plans: continue, or replan; actions are always drawn (default: no)",
    )
    parser.add_argument(
        "--pairs", type=POSITIVE_INT, default=2000, help="of branches, for a calibration (default: 2000)"
    )
    parser.add_argument("--horizon", type=POSITIVE_INT, default=50, help="steps of a branch (default: 50)")
    parser.add_argument(
        "--output", help="files are called this and .json, .csv, .mp4, .png (default: RUN_DIR/evaluation)"
    )
    args = parser.parse_args(argv)
    args.output = args.output or os.path.join(args.run_dir, "evaluation")
    if args.video + args.sweep + args.calibration > 1:
        parser.error("argument --video, --sweep or --calibration: only one of them at a time")
    if args.calibration and args.pairs < 10:
        parser.error("argument --pairs: a calibration needs 10 or more")
    wanted = [".json"] + [".mp4"] * args.video + [".png", ".svg"] * (args.sweep or args.calibration)
    wanted += [".csv"] * args.calibration
    parser.refuse_existing([args.output + ending for ending in wanted], "move it")
    return args


def run(args):
    """Play, print and write.

    Raises:
        UsageError: the directory cannot be played.
        RunError: the result cannot be written.
    """
    import video
    from envs import rendering

    if args.video:
        rendering.choose_renderer()
    else:
        rendering.disable_rendering()
    import torch

    from analysis.saved_run import load_run
    from envs import CameraError, EnvError, make_env
    from rollout import episode_seed

    torch.set_num_threads(1)
    try:
        agent, flags, step = load_run(args.run_dir, with_critics=args.calibration)
    except EnvError as error:
        raise UsageError(f"{args.run_dir}: {error}") from error
    if args.calibration and flags["chunk_size"] == 1:
        raise UsageError(f"argument --calibration: {args.run_dir} has plans of one action, so no confidences")
    try:
        env = make_env(flags["env"], flags["action_repeat"], args.video_size if args.video else None, args.video_camera)
    except CameraError as error:
        raise UsageError(f"argument --video_camera: {error}") from error
    video.check_fps(env, args.video_fps)
    if args.video and (problem := video.probe_video(env)):
        raise UsageError(f"argument --video: {problem}")
    threshold = flags["confidence_threshold"] if args.confidence_threshold is None else args.confidence_threshold
    seeds = [episode_seed(args.seed, episode) for episode in range(args.episodes)]
    print(f"{args.run_dir}: {flags['env']}, step {step}, {args.episodes} episodes")
    result = {
        "title": f"{flags['env']}, seed {flags['seed']}, step {step}",
        "run_dir": args.run_dir,
        "step": step,
        "episodes": args.episodes,
        "seed": args.seed,
        "sample": args.sample or args.calibration,
        "confidence_threshold": threshold,
    }
    figure = None
    if args.sweep:
        figure = evaluate_lengths(result, args, agent, env, seeds, flags["chunk_size"])
    elif args.calibration:
        figure = evaluate_confidences(result, args, agent, env, seeds, threshold, flags["discount"])
    else:
        evaluate_episodes(result, args, agent, env, seeds, threshold)
    if figure:
        save_figure(figure, args.output)
    write_atomically(f"{args.output}.json", json.dumps(result, indent=2).encode())
    print(f"wrote {args.output}.json")


def evaluate_episodes(result, args, agent, env, seeds, threshold):
    """Play, film the first episode if that is wanted, and print each episode."""
    from agent.chunking import by_confidence
    from rollout import play, summary

    path = f"{args.output}.mp4" if args.video else None
    shown = threshold if args.video_overlay else None
    returns, lengths = play(agent, env, seeds, by_confidence(threshold), args.sample, path, shown, args.video_fps)
    result |= summary(returns, lengths)
    print(f"{'episode':>8} {'return':>10} {'mean k':>7}")
    for episode, (value, k) in enumerate(zip(result["returns"], result["ks"], strict=True), start=1):
        print(f"{episode:8} {value:10.2f} {k:7.2f}")
    interval = f"[{result['return_low']:.2f}, {result['return_high']:.2f}]"
    print(f"{'mean':>8} {result['return']:10.2f} {result['k']:7.2f}   95% {interval}")


def evaluate_lengths(result, args, agent, env, seeds, chunk_size):
    """The sweep: its rows, printed as they come; its picture."""
    from analysis import threshold_sweep

    result["rows"] = []
    print(threshold_sweep.HEADER)
    for row in threshold_sweep.rows(agent, env, seeds, chunk_size, args.sample):
        print(threshold_sweep.line(row), flush=True)
        result["rows"].append(row)
    return threshold_sweep.draw(result)


def evaluate_confidences(result, args, agent, env, seeds, threshold, discount):
    """The calibration: its pairs as CSV and its report, printed; its picture."""
    from agent.chunking import by_confidence
    from analysis import calibration

    length = by_confidence(threshold)
    pairs = list(calibration.pairs(agent, env, seeds, length, discount, args.horizon, args.pairs))
    result |= {"horizon": args.horizon, **calibration.report(pairs)}
    write_atomically(f"{args.output}.csv", calibration.csv_text(pairs).encode())
    print(calibration.table(result))
    return calibration.draw(result)


def main():
    """The command line; every error is one sentence."""
    args = parse_args()
    with report_errors():
        run(args)


if __name__ == "__main__":
    main()
