"""`python -m tests.chaos --database postgres --size short --seed 7`."""

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path

from tests.chaos.disk import enter_namespace
from tests.chaos.plan import PLANS
from tests.chaos.run import run


def main() -> int:
    """Run what the command line asks for; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--size", choices=["short", "full"], default="short")
    parser.add_argument("--seed", type=int, help="repeat a run; a new one is drawn without it")
    parser.add_argument("--json", type=Path, help="write the results there, too")
    parser.add_argument("--logs", type=Path, help="keep the logs of the workers there")
    given = parser.parse_args()
    databases = ["sqlite", "postgres"] if given.database == "both" else [given.database]
    if "sqlite" in databases and len(databases) == 1:
        enter_namespace()
    seed = secrets.randbits(32) if given.seed is None else given.seed
    reports = [_run(database, given, seed) for database in databases]
    if given.json:
        given.json.write_text(json.dumps([r.document() for r in reports], indent=2) + "\n")
    return 0 if all(report.is_clean for report in reports) else 1


def _run(database: str, given: argparse.Namespace, seed: int):
    plan = PLANS[database, given.size]
    again = f"python -m tests.chaos --database {database} --size {plan.size} --seed {seed}"
    print(f"chaos on {database}; repeat with: {again}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="statejobs-chaos-") as temporary:
        directory = Path(temporary)
        if given.logs:
            directory = given.logs / database
            directory.mkdir(parents=True)
        report = run(plan, seed=seed, directory=directory, say=_say)
    print(f"\n{report.table()}\n", flush=True)  # noqa: T201
    return report


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
