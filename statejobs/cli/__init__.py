"""The `statejobs` command. Data goes to stdout, everything else to stderr."""
