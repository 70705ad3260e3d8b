"""Questions that people have about jobs and records, and what they do to them by hand."""
