"""Graphs at work: compile and fire them, check them, draw them."""
