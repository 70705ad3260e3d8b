"""The only package that knows SQL: tables, statements, and what each database needs."""
