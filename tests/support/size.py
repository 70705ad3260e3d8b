"""How large a run is: `STATEJOBS_PROMISES=full` asks for the full figures."""

import os

IS_FULL = os.environ.get("STATEJOBS_PROMISES") == "full"


def size(short, full):
    """Return *full* in a full run, else *short*."""
    return full if IS_FULL else short
