"""Cron expressions: the dialect, what the fields of one name, and a walk through the calendar."""
