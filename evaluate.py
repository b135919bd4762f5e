"""Evaluation episodes of an agent."""

import warnings
from contextlib import nullcontext

import numpy as np

from agent.chunking import ChunkExecutor, by_confidence
from video import VideoRecorder


def evaluate(agent, env, *, step, seed, num_episodes, confidence_threshold, video_path=None):
    """Play the mode of the policy and film its first episode if video_path is given.

    The episodes' seeds depend on the run's seed, the step and the episode alone, so that evaluations neither
    touch training nor each other.

    Returns:
        an eval row: step, mean return, k averaged over all plans, return of each episode.
    """
    executor = ChunkExecutor(lambda obs: agent.plan(obs, sample=False), by_confidence(confidence_threshold))
    returns, lengths = [], []
    for episode in range(num_episodes):
        episode_seed = np.random.SeedSequence([seed, step, episode]).generate_state(1)
        obs, _ = env.reset(seed=int(episode_seed[0]))
        executor.reset()
        episode_return, done = 0.0, False
        with VideoRecorder(video_path, env) if video_path and episode == 0 else nullcontext() as video:
            while not done:
                if video:
                    video.record()
                obs, reward, terminated, truncated, _ = env.step(executor(obs))
                episode_return += reward
                done = terminated or truncated
        if video and video.failure:
            warnings.warn(f"a video is missing, training goes on: {video.failure}", stacklevel=2)
        returns.append(episode_return)
        lengths += executor.lengths
    row = {"step": step, "return": float(np.mean(returns)), "k": float(np.mean(lengths))}
    return row | {f"return_{i}": value for i, value in enumerate(returns, start=1)}
