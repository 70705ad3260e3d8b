"""Values and decisions: no I/O, no SQL, no clock read but through `Clock`."""
