"""Draws the tables of the state machine into docs/state-machine.md and two pictures beside it."""
