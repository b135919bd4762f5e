"""Play episodes with an agent: their returns and executed lengths."""

import warnings
from contextlib import nullcontext

import numpy as np

from agent.chunking import ChunkExecutor, by_confidence
from errors import RunError
from video import PlanView, VideoRecorder


def episode_seed(*numbers):
    """A seed that is a function of these non-negative integers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def play_each(agent, env, seeds, commit_rule, sample=False, video_path=None, threshold=None, video_fps=None):
    """Play one episode per seed.

    Args:
        agent: `SACAgent`.
        env: a Gymnasium environment.
        seeds: one per episode.
        commit_rule: function Plan -> executed length k.
        sample: whether to sample actions from the policy; else each is tanh of its Gaussian's mean.
        video_path: where to record the first episode, or None.
        threshold: shown in the video with the plan; None records without an overlay.
        video_fps: as in `VideoRecorder`.

    Yields:
        (return, executed lengths k of all plans), per episode.

    Raises:
        RunError: a reward, observation or action is not finite, or the video does not fit on the disk.
    """
    executor = ChunkExecutor(lambda obs: agent.plan(obs, sample), commit_rule)
    for episode, seed in enumerate(seeds, start=1):
        record = video_path is not None and episode == 1
        with VideoRecorder(video_path, env, video_fps) if record else nullcontext() as recorder:
            episode_return = _play_episode(executor, env, seed, episode, recorder, threshold)
        if recorder and recorder.failure:
            warnings.warn(f"no video was written: {recorder.failure}", stacklevel=2)
        yield episode_return, executor.lengths


def check_finite(value, what, where):
    """Check a number or an array.

    Args:
        value: number or array.
        what: name of the value, for the message.
        where: beginning of the message.

    Raises:
        RunError: value is not finite, or not numeric. The message is one line.
    """
    try:
        finite = np.isfinite(value).all()
    except TypeError:  # not numeric
        finite = False
    if not finite:
        raise RunError(f"{where}: {what} is not finite: {' '.join(str(value).split())}")


def checked_reset(env, seed, where):
    """Reset env; return the first observation, (O,).

    Raises:
        RunError: the observation is not finite; the message begins with where.
    """
    obs, _ = env.reset(seed=seed)
    check_finite(obs, "the environment's observation", where)
    return obs


def checked_step(env, action, where):
    """As env.step(action).

    Raises:
        RunError: action, reward or observation is not finite; the message begins with where.
    """
    check_finite(action, "the policy's action", where)
    obs, reward, terminated, truncated, info = env.step(action)
    check_finite(reward, "the environment's reward", where)
    check_finite(obs, "the environment's observation", where)
    return obs, reward, terminated, truncated, info


def _play_episode(executor, env, seed, episode, recorder, threshold):
    step, episode_return, done = 0, 0.0, False
    obs = checked_reset(env, seed, f"episode {episode}, step 0")
    executor.reset()
    while not done:
        step += 1
        where = f"episode {episode}, step {step}"
        action = executor(obs)
        if recorder:
            recorder.record(None if threshold is None else _view(executor, threshold, step - 1, episode_return))
        obs, reward, terminated, truncated, _ = checked_step(env, action, where)
        episode_return += reward
        done = terminated or truncated
    check_finite(episode_return, "the return", where)
    return float(episode_return)


def _view(executor, threshold, step, episode_return):
    k = executor.lengths[-1]
    position = k - 1 - len(executor.rest)
    return PlanView(step, episode_return, executor.confidences[-1], threshold, k, position, position == 0)


def play(*args, **kwargs):
    """As `play_each`, with all results at the end.

    Returns:
        (returns, lengths): two lists with one entry per episode, see `play_each`.
    """
    episodes = list(play_each(*args, **kwargs))
    return [value for value, _ in episodes], [lengths for _, lengths in episodes]


def evaluate(
    agent, env, *, step, seed, num_episodes, confidence_threshold, video_path=None, video_overlay=True, video_fps=None
):
    """Evaluate the policy without its noise.

    The seed of an episode depends only on the run's seed, the step and the number of the episode, so that evaluations
    are independent of each other and of the training.

    Args:
        agent, env: `SACAgent`, a Gymnasium environment.
        step: steps of training so far.
        seed: the run's seed.
        num_episodes: number of episodes.
        confidence_threshold: see `by_confidence`.
        video_path: where to record the first episode, or None.
        video_overlay: whether the video shows the plan.
        video_fps: as in `VideoRecorder`.

    Returns:
        a row of eval.csv: step, mean return, mean k over all plans, return of each episode.

    Raises:
        RunError: see `play_each`.
    """
    seeds = [episode_seed(seed, step, episode) for episode in range(num_episodes)]
    shown = confidence_threshold if video_overlay else None
    rule = by_confidence(confidence_threshold)
    try:
        returns, lengths = play(agent, env, seeds, rule, video_path=video_path, threshold=shown, video_fps=video_fps)
    except RunError as error:
        raise RunError(f"evaluation at step {step}: {error}") from error
    row = {"step": step, "return": float(np.mean(returns)), "k": float(np.mean(np.concatenate(lengths)))}
    return row | {f"return_{i}": value for i, value in enumerate(returns, start=1)}
