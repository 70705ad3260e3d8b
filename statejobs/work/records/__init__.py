"""What a job does to a record: its action, run on it, and the move that ends it."""
