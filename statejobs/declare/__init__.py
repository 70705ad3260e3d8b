"""What users write: a machine, its triggers and actions, tasks, domains, and contexts."""
