"""Claim jobs, run them, record how they ended. Knows jobs, never resources."""
