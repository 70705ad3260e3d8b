"""Moves records whose time in a state is over."""
