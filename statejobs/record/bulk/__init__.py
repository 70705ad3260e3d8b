"""Moves that one statement makes for many records."""
