"""Breaks real workers on real databases by a seed, and proves in SQL that nothing was lost."""
