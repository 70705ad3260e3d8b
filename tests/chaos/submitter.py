"""A client that enqueues through faults: a commit whose answer is lost is looked up, then repeated.

Run as `python -m tests.chaos.submitter DATABASE --seed N --count N --seconds S --acks FILE`.
"""

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TextIO

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from statejobs import StateJobs
from statejobs.store.engines.factory import make_watch
from tests.chaos.app import Does, Errand, make_app

ACKNOWLEDGED, RECOVERED, TORN, LOCKED = "acknowledged", "recovered", "torn", "locked"
_WEIGHTS = {
    Does.TOUCH: 30,
    Does.WRITE: 30,
    Does.SPAWN: 15,
    Does.STUMBLE: 8,
    Does.NAP: 7,
    Does.DALLY: 8,
    Does.DOOM: 2,
}
_LARGEST_BATCH = 10

Dress = Callable[[Session, Sequence[Errand]], None]
"""Does something more to errands that are about to be committed."""


def submit_all(
    app: StateJobs, rng: Random, *, count: int, seconds: float, acks: TextIO
) -> None:
    """Enqueue *count* errands over *seconds*; write each id once it is known to be committed."""
    began, done = time.monotonic(), 0
    while done < count:
        size = min(rng.randint(1, _LARGEST_BATCH), count - done)
        batch = {new_id(rng): _choose(rng) for _ in range(size)}
        answer = commit_surely(app, batch, acks)
        acks.writelines(f"{answer} {id_}\n" for id_ in batch)
        acks.flush()
        done += size
        ahead = began + seconds * done / count - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)  # noqa: TID251


def leave_as_they_are(_session: Session, _errands: Sequence[Errand]) -> None:
    """Do nothing to what is about to be committed."""


def commit_surely(
    app: StateJobs,
    batch: dict[str, Does],
    acks: TextIO,
    dress: Dress = leave_as_they_are,
) -> str:
    """Commit *batch*, once: after an error nobody knows whether it was applied.

    Args:
        app: Where.
        batch: Id → what the errand does.
        acks: Told of locks that reach a user.
        dress: Changes the errands before the commit.
    """
    answer = ACKNOWLEDGED
    while True:
        try:
            if answer is RECOVERED and (found := _count_committed(app, batch)):
                return RECOVERED if found == len(batch) else TORN
            _commit(app, batch, dress)
        except SQLAlchemyError as error:
            if "database is locked" in str(error):
                acks.write(f"{LOCKED} {error!r}\n".replace("\n", " ") + "\n")
            answer = RECOVERED
            time.sleep(0.1)  # noqa: TID251
        else:
            return answer


def _commit(app: StateJobs, batch: dict[str, Does], dress: Dress) -> None:
    with app.session() as session:
        errands = [Errand(id=id_, does=does) for id_, does in batch.items()]
        session.add_all(errands)
        for errand in errands:
            errand.submit()
        dress(session, errands)
        session.commit()


def _count_committed(app: StateJobs, batch: dict[str, Does]) -> int:
    with app.session() as session:
        return (
            session.scalar(select(func.count()).where(Errand.id.in_(list(batch)))) or 0
        )


def new_id(rng: Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def _choose(rng: Random) -> Does:
    (does,) = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
    return does


def _watch(app: StateJobs) -> None:
    """Close connections whose answers will not come, as workers do: else a client waits for ever.

    One may be half open for good that has just sent a statement.
    """
    watch = make_watch(app.engine, time.monotonic)
    while watch is not None:
        time.sleep(1)  # noqa: TID251
        watch.run_once()


def main() -> None:
    """Read the command line and submit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--acks", type=Path, required=True)
    given = parser.parse_args()
    app = make_app(given.database)
    threading.Thread(target=_watch, args=[app], daemon=True).start()
    with given.acks.open("a") as acks:
        submit_all(
            app,
            Random(given.seed),
            count=given.count,
            seconds=given.seconds,
            acks=acks,
        )


if __name__ == "__main__":
    main()
