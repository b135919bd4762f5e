"""Play episodes of an agent and return what they gave."""

import warnings
from contextlib import nullcontext

import numpy as np

from agent.chunking import ChunkExecutor, by_confidence
from errors import RunError
from video import PlanView, VideoRecorder


def episode_seed(*numbers):
    """A seed that depends on these numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def play_each(agent, env, seeds, commit_rule, sample=False, video_path=None, threshold=None, video_fps=None):
    """Play one episode per seed.

    Args:
        agent: `SACAgent`.
        env: a Gymnasium environment.
        seeds: of the episodes.
        commit_rule: Plan -> executed length k.
        sample: whether actions are drawn from the policy; else the mode of each.
        video_path: where to record the first episode, or None.
        threshold: shown in the video with the plan; None records without an overlay.
        video_fps: as in `VideoRecorder`.

    Yields:
        (return, lengths) of each episode: lengths are the executed lengths k of its plans.

    Raises:
        RunError: a reward, observation or action is not finite, or the video does not fit on the disk.
    """
    executor = ChunkExecutor(lambda obs: agent.plan(obs, sample), commit_rule)
    for episode, seed in enumerate(seeds, start=1):
        record = video_path is not None and episode == 1
        with VideoRecorder(video_path, env, video_fps) if record else nullcontext() as recorder:
            episode_return = _play_episode(executor, env, seed, episode, recorder, threshold)
        if recorder and recorder.failure:
            warnings.warn(f"a video is missing: {recorder.failure}", stacklevel=2)
        yield episode_return, executor.lengths


def check_finite(value, what, where):
    """Raise a RunError, one line, unless value (a number or an array) is finite.

    Args:
        value: checked.
        what: its name in the sentence.
        where: the beginning of the sentence.
    """
    try:
        finite = np.isfinite(value).all()
    except TypeError:  # None, or text
        finite = False
    if not finite:
        raise RunError(f"{where}: {what} is not finite: {' '.join(str(value).split())}")


def checked_reset(env, seed, where):
    """The first observation of an episode, (O,).

    Raises:
        RunError: it is not finite; the sentence begins with where.
    """
    obs, _ = env.reset(seed=seed)
    check_finite(obs, "the environment's observation", where)
    return obs


def checked_step(env, action, where):
    """What env.step(action) gives.

    Raises:
        RunError: action, reward or observation is not finite; the sentence begins with where.
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
    position = k - executor.steps_left
    return PlanView(step, episode_return, executor.confidences[-1], threshold, k, position, position == 0)


def play(*args, **kwargs):
    """As `play_each`, but all at once.

    Returns:
        (returns, lengths): of each episode its return and the executed lengths of its plans.
    """
    episodes = list(play_each(*args, **kwargs))
    return [value for value, _ in episodes], [lengths for _, lengths in episodes]


def evaluate(
    agent, env, *, step, seed, num_episodes, confidence_threshold, video_path=None, video_overlay=True, video_fps=None
):
    """Play the mode of the policy, and record the first episode if video_path is given.

    The episodes' seeds depend on the run's seed, the step and the episode alone, so that evaluations neither
    touch training nor each other.

    Returns:
        an eval row: step, mean return, k averaged over all plans, return of each episode.

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
