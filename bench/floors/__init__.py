"""Hand-written workers on the tables of statejobs, that write the same rows and nothing else.

No leases are renewed, nothing is retried, rescued or cancelled: what is left is the work itself.
"""
