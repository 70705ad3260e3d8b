"""Measures statejobs against hand-written programs that do the same work; see README.md."""
