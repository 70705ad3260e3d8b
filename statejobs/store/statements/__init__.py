"""SQL: one function for each statement, named by what it does; each serves both databases."""
