"""A move that keeps the state is no move away: it supersedes nobody, and everyone wins."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from statejobs import StaleTransitionError, override_state
from statejobs.record.ledger import CLOCK
from tests.support.leaflets import Base, Leaflet, Poster, S
from tests.support.shop import StoppedClock, read_history_rows, shop_engine
from tests.support.size import size

RACERS = 50
RECORDS = size(10, 1000)


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        yield opened


@pytest.fixture
def session(engine, clock):
    with Session(engine, info={CLOCK: clock}) as opened:
        yield opened


def approved(session, kind=Leaflet):
    """Commit an approved record."""
    record = kind()
    session.add(record)
    record.approve()
    session.commit()
    return record


def versions(engine):
    return [(row.name, row.version) for row in read_history_rows(engine)]


def test_a_self_transition_keeps_version_and_time(engine, session, clock):
    leaflet = approved(session)
    before = (leaflet.state_version, leaflet.state_changed_at)
    clock.advance(hours=1)

    leaflet.touch("all")
    session.commit()

    assert (leaflet.state, leaflet.told) == (S.APPROVED, "all")
    assert (leaflet.state_version, leaflet.state_changed_at) == before
    assert versions(engine) == [("create", 0), ("approve", 1), ("touch", 1)]
    assert read_history_rows(engine)[-1].at == clock.now()


def test_what_the_session_holds_is_what_was_written(engine, session, clock):
    leaflet = approved(session)
    clock.advance(hours=1)
    leaflet.touch()
    session.flush()
    held = (leaflet.state_version, leaflet.state_changed_at)
    session.commit()

    session.expire_all()

    assert held == (leaflet.state_version, leaflet.state_changed_at)


def test_a_self_transition_of_a_new_record_keeps_the_time_of_the_move_before(
    session, clock
):
    leaflet = Leaflet()
    session.add(leaflet)
    leaflet.approve()
    approved_at = clock.now()
    clock.advance(hours=1)
    leaflet.touch()
    session.commit()

    assert (leaflet.state_version, leaflet.state_changed_at) == (1, approved_at)


def test_away_and_back_in_one_flush_is_a_move_away(engine, session, clock):
    leaflet = approved(session)
    leaflet.touch()
    clock.advance(hours=1)
    leaflet.archive()
    leaflet.approve()
    left_at = clock.now()
    clock.advance(hours=1)
    leaflet.touch()
    session.commit()

    assert (leaflet.state, leaflet.state_version) == (S.APPROVED, 3)
    assert leaflet.state_changed_at == left_at
    assert [version for _, version in versions(engine)] == [0, 1, 1, 2, 3, 3]


def test_moves_that_stay_and_moves_that_leave_share_a_flush(engine, session, clock):
    staying, leaving = approved(session), approved(session)
    clock.advance(hours=1)

    staying.touch()
    leaving.archive()
    session.commit()

    assert (staying.state_version, leaving.state_version) == (1, 2)
    assert staying.state_changed_at == clock.now() - timedelta(hours=1)
    assert leaving.state_changed_at == clock.now()


def test_an_override_that_leaves_and_one_that_does_not(session):
    leaflet = approved(session)
    with override_state(leaflet, reason="test"):
        leaflet.state = S.APPROVED
    session.commit()
    assert leaflet.state_version == 1

    with override_state(leaflet, reason="test"):
        leaflet.state = S.ARCHIVED
    session.commit()
    assert leaflet.state_version == 2


def test_a_self_transition_after_someone_left_is_still_refused(engine):
    with Session(engine) as first, Session(engine) as second:
        mine = approved(first)
        theirs = second.get_one(Leaflet, mine.id)
        assert theirs.state is S.APPROVED
        mine.archive()
        first.commit()
        theirs.touch()

        with pytest.raises(StaleTransitionError, match="but it is in 'archived'"):
            second.commit()


def test_a_self_transition_after_it_left_and_came_back_is_refused(engine):
    with Session(engine) as first, Session(engine) as second:
        mine = approved(first)
        theirs = second.get_one(Leaflet, mine.id)
        mine.archive()
        first.commit()
        mine.approve()
        first.commit()
        theirs.touch()

        with pytest.raises(StaleTransitionError):
            second.commit()


def test_the_one_that_lost_among_many_that_stay_is_found(engine):
    with Session(engine) as first, Session(engine) as second:
        mine = [approved(first) for _ in range(3)]
        theirs = [second.get_one(Leaflet, leaflet.id) for leaflet in mine]
        mine[1].archive()
        first.commit()
        for leaflet in theirs:
            leaflet.touch()

        with pytest.raises(
            StaleTransitionError, match=f"^Leaflet {mine[1].id}: 'touch'"
        ):
            second.commit()


def race(engine, key):
    """Let `RACERS` sessions, which all saw it approved, touch it; return how each ended."""
    line = threading.Barrier(RACERS)

    def run(_):
        with Session(engine) as session:
            session.get_one(Leaflet, key).touch()
            line.wait()
            try:
                session.commit()
            except StaleTransitionError:
                return "lost"
            return "won"

    with ThreadPoolExecutor(RACERS) as pool:
        return Counter(pool.map(run, range(RACERS)))


@pytest.mark.timeout(size(300, 3600))
def test_of_fifty_racers_of_a_self_transition_all_win(database_url):
    with shop_engine(database_url, Base, connections=RACERS) as engine:
        with Session(engine) as session:
            keys = [approved(session).id for _ in range(RECORDS)]

        ends = [race(engine, key) for key in keys]

        assert ends == [{"won": RACERS}] * RECORDS
        for key in keys:
            rows = read_history_rows(engine, key)
            assert [row.name for row in rows] == [
                "create",
                "approve",
                *["touch"] * RACERS,
            ]
            assert [row.version for row in rows] == [0, 1, *[1] * RACERS]


# Bulk --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_held", [False, True], ids=["unloaded", "loaded"])
def test_a_bulk_self_transition_keeps_version_and_time(engine, session, clock, is_held):
    leaflet = approved(session)
    before = (leaflet.state_version, leaflet.state_changed_at)
    if not is_held:
        session.expunge_all()
    clock.advance(hours=1)

    result = Leaflet.touch.bulk(session, where=Leaflet.id == leaflet.id, values={})

    leaflet = session.get_one(Leaflet, leaflet.id)
    assert (result.moved, leaflet.state_version, leaflet.state_changed_at) == (
        1,
        *before,
    )
    session.commit()
    assert (leaflet.state_version, leaflet.state_changed_at) == before
    assert versions(engine)[-1] == ("touch", 1)


def test_a_bulk_move_from_several_states_moves_each_record_once(engine, session):
    staying, coming = approved(session, Poster), approved(session, Poster)
    with override_state(coming, reason="test"):
        coming.state = S.JAMMED
    session.commit()

    assert Poster.approve_again.bulk(session, where=Poster.id > 0).moved == 2
    session.commit()

    rows = [row for row in read_history_rows(engine) if row.name == "approve_again"]
    assert sorted((row.source, row.target, row.version) for row in rows) == [
        ("approved", "approved", 1),
        ("jammed", "approved", 3),
    ]
    assert (staying.state_version, coming.state_version) == (1, 3)
