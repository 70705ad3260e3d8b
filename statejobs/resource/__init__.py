"""Declare models that are state machines, and tasks. Knows machines and SQL, never the runner."""
