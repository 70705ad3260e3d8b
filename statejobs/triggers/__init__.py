"""The bridge: what the jobs of triggers and tasks do. Joins the two halves."""
