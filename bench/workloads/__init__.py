"""The workloads W1 to W7."""
