"""Soft Actor-Critic over action prefixes: actor, critic, confidence and the update that joins them."""

from agent.sac import SACAgent

__all__ = ["SACAgent"]
