"""One resource: what was written of it, its model, and its records in somebody's session."""
