"""`python -m statejobs`."""

from statejobs.cli.main import main

main()
