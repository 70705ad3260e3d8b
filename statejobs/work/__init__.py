"""What a job does, to a record or as a task. Joins those who declare and those who run."""
