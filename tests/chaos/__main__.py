"""`python -m tests.chaos --database postgres --size short --seed 7`; all by default."""

import argparse
import json
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.disk import enter_namespace
from tests.chaos.plan import PLANS
from tests.chaos.pooler import find_pooler
from tests.chaos.run import run

_DATABASES = ("sqlite", "postgres", "failover", "clocks", "ticks", "pgbouncer")


def main() -> int:
    """Run what the command line asks for; 0 when every promise held."""
    # workers and servers are seen off
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, _give_up)
    given = _read_command_line()
    if given.seed is None:
        given.seed = secrets.randbits(32)
    return _run_here(given) if given.database else _run_each(given)


def _read_command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--database", choices=_DATABASES, help="only this one")
    parser.add_argument("--size", choices=["short", "full"], default="short")
    parser.add_argument(
        "--seed", type=int, help="repeat a run; a new one is drawn without it"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    parser.add_argument(
        "--logs", type=Path, help="keep the logs of the workers in this folder"
    )
    return parser.parse_args()


def _run_each(given: argparse.Namespace) -> int:
    """Run one database after the other, in processes of their own: SQLite wants a namespace."""
    codes, documents = [], []
    with tempfile.TemporaryDirectory() as directory:
        for database in _DATABASES:
            result = Path(directory, database)
            command = [sys.executable, "-m", "tests.chaos", "--database", database]
            command += [
                "--size",
                given.size,
                "--seed",
                str(given.seed),
                "--json",
                str(result),
            ]
            command += ["--logs", str(given.logs)] if given.logs else []
            codes.append(subprocess.run(command, check=False).returncode)
            documents += json.loads(result.read_text()) if result.exists() else []
    _write(given.json, documents)
    return max(codes)


def _run_here(given: argparse.Namespace) -> int:
    if given.database == "sqlite":
        enter_namespace()
    if given.database == "pgbouncer" and find_pooler() is None:
        _say(
            "chaos on pgbouncer: skipped, there is no program pgbouncer (apt install pgbouncer)"
        )
        return 0
    plan = PLANS[given.database, given.size]
    again = f"--database {plan.database} --size {plan.size} --seed {given.seed}"
    _say(f"chaos; repeat with: python -m tests.chaos {again}")
    with tempfile.TemporaryDirectory(prefix="statejobs-chaos-") as temporary:
        directory = Path(temporary)
        if given.logs:
            directory = given.logs.absolute() / plan.database
            directory.mkdir(parents=True)
        signal.alarm(plan.most_seconds)
        report = run(plan, seed=given.seed, directory=directory, say=_say)
        signal.alarm(0)
    print(f"\n{report.table()}\n", flush=True)  # noqa: T201
    _write(given.json, [report.document()])
    return 0 if report.is_clean else 1


def _give_up(*_: object) -> None:
    raise TimeoutError("the run hangs: see above where")


def _write(file: Path | None, documents: list[dict]) -> None:
    if file is not None:
        file.write_text(json.dumps(documents, indent=2) + "\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
