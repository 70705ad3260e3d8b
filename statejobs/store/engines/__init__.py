"""Connections: how each database is opened, begun, watched, woken and left."""
