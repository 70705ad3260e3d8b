"""Declare models that are state machines. Knows machines and SQL, never the runner."""
