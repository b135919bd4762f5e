"""Episodes of an agent, played for their returns."""

import warnings
from contextlib import nullcontext

import numpy as np
from scipy.stats import bootstrap

from agent.chunking import ChunkExecutor, by_confidence
from video import PlanView, VideoRecorder


def episode_seed(*numbers):
    """A seed that depends on these numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def play(agent, env, seeds, length, sample=False, video_path=None, threshold=None, video_fps=None):
    """One episode a seed.

    Args:
        agent: `SACAgent`.
        env: a Gymnasium environment.
        seeds: of the episodes.
        length: Plan -> steps of it to execute.
        sample: whether actions are drawn from the policy; else the mode of each.
        video_path: where to film the first episode, or None.
        threshold: shown in the video with the plan; None films without an overlay.
        video_fps: as in `VideoRecorder`.

    Returns:
        (returns, lengths): of each episode its return and the executed lengths of its plans.
    """
    executor = ChunkExecutor(lambda obs: agent.plan(obs, sample), length)
    returns, lengths = [], []
    for episode, seed in enumerate(seeds):
        obs, _ = env.reset(seed=seed)
        executor.reset()
        episode_return, step, done = 0.0, 0, False
        with VideoRecorder(video_path, env, video_fps) if video_path and episode == 0 else nullcontext() as recorder:
            while not done:
                action = executor(obs)
                if recorder:
                    recorder.record(None if threshold is None else _view(executor, threshold, step, episode_return))
                obs, reward, terminated, truncated, _ = env.step(action)
                step += 1
                episode_return += reward
                done = terminated or truncated
        if recorder and recorder.failure:
            warnings.warn(f"a video is missing: {recorder.failure}", stacklevel=2)
        returns.append(episode_return)
        lengths.append(executor.lengths)
    return returns, lengths


def _view(executor, threshold, step, episode_return):
    k = executor.lengths[-1]
    position = k - executor.steps_left
    return PlanView(step, episode_return, executor.confidences[-1], threshold, k, position, position == 0)


def evaluate(
    agent, env, *, step, seed, num_episodes, confidence_threshold, video_path=None, video_overlay=True, video_fps=None
):
    """Play the mode of the policy and film its first episode if video_path is given.

    The episodes' seeds depend on the run's seed, the step and the episode alone, so that evaluations neither
    touch training nor each other.

    Returns:
        an eval row: step, mean return, k averaged over all plans, return of each episode.
    """
    seeds = [episode_seed(seed, step, episode) for episode in range(num_episodes)]
    shown = confidence_threshold if video_overlay else None
    length = by_confidence(confidence_threshold)
    returns, lengths = play(agent, env, seeds, length, video_path=video_path, threshold=shown, video_fps=video_fps)
    row = {"step": step, "return": float(np.mean(returns)), "k": float(np.mean(np.concatenate(lengths)))}
    return row | {f"return_{i}": value for i, value in enumerate(returns, start=1)}


def mean_interval(values):
    """(mean, low, high): a 95% percentile bootstrap over episodes; the same numbers for the same values."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, mean, mean
    result = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    return mean, float(result.confidence_interval.low), float(result.confidence_interval.high)


def summary(returns, lengths):
    """What is reported of some episodes: mean return with its interval, mean k, and both of each episode."""
    mean, low, high = mean_interval(returns)
    per_episode = [float(np.mean(k)) for k in lengths]
    return {
        "return": mean,
        "return_low": low,
        "return_high": high,
        "k": float(np.mean(np.concatenate(lengths))),
        "returns": returns,
        "ks": per_episode,
    }
