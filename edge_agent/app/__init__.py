"""The composition root: the only place that names concrete classes."""

from edge_agent.app.agent import Agent, Ports, layout_of, run_until_stopped, system_ports

__all__ = ["Agent", "Ports", "layout_of", "run_until_stopped", "system_ports"]
