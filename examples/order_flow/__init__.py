"""A shop whose orders are charged in the background. Begin with `models.py`."""
