"""What a job does that has no record: a task."""
