"""The composition root: makes the parts of the daemon, chooses the drivers, and connects the parts."""

from edge_agent.app.agent import Agent
from edge_agent.app.core_layout import layout_of
from edge_agent.app.environment import Environment, system_environment
from edge_agent.app.service import Service

__all__ = ["Agent", "Environment", "Service", "layout_of", "system_environment"]
