"""Measures statejobs beside hand-written floors and other libraries. See README.md."""
