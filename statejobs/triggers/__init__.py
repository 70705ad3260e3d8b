"""The bridge: what a trigger's job does to its record. Joins the two halves."""
