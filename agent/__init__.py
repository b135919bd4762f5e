"""Soft Actor-Critic over action prefixes: actor, critic, confidences and their update."""

from agent.sac import SACAgent

__all__ = ["SACAgent"]
