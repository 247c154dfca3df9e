"""The composition root: makes the parts of the daemon, chooses the drivers, and connects the parts."""

from edge_agent.app.agent import Agent
from edge_agent.app.layout import layout_of
from edge_agent.app.outside import Outside, system_outside
from edge_agent.app.service import Service

__all__ = ["Agent", "Outside", "Service", "layout_of", "system_outside"]
