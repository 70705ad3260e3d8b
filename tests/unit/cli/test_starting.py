"""What a starting process waits for, and what it ends with at once."""

import sqlite3
from random import Random
from sqlite3 import OperationalError as SqliteError

import pytest
from psycopg import OperationalError as PostgresError
from sqlalchemy.exc import OperationalError

from statejobs.cli.once_up import once_there
from statejobs.store.faults import will_pass
from statejobs.values.clock import Sources
from tests.support.clock import ManualClock


def failure(error):
    return OperationalError("SELECT 1", {}, error)


def of_sqlite(words, code):
    error = SqliteError(words)
    error.sqlite_errorcode = code
    return error


def of_postgresql(words, sqlstate):
    return type("Named", (PostgresError,), {"sqlstate": sqlstate})(words)


@pytest.mark.parametrize(
    "error",
    [
        PostgresError("connection refused"),
        PostgresError("FATAL:  sorry, too many clients already"),
        PostgresError("FATAL:  the database system is starting up"),
        PostgresError("connection timeout expired"),
        PostgresError(
            "failed to resolve host 'db': Temporary failure in name resolution"
        ),
        of_postgresql("FATAL:  remaining connection slots are reserved", "53300"),
        of_postgresql(
            "ERROR:  cannot execute INSERT in a read-only transaction", "25006"
        ),
        of_sqlite("database is locked", sqlite3.SQLITE_BUSY),
        of_sqlite("database or disk is full", sqlite3.SQLITE_FULL),
    ],
    ids=str,
)
def test_a_database_that_may_come_back_is_waited_for(error):
    assert will_pass(failure(error))


@pytest.mark.parametrize(
    "error",
    [
        PostgresError('FATAL:  password authentication failed for user "app"'),
        PostgresError('FATAL:  database "ap" does not exist'),
        PostgresError('FATAL:  no pg_hba.conf entry for host "::1", user "app"'),
        PostgresError("connection failed: fe_sendauth: no password supplied"),
        of_postgresql('ERROR:  relation "statejobs_nodes" does not exist', "42P01"),
        of_sqlite("unable to open database file", sqlite3.SQLITE_CANTOPEN),
        of_sqlite("no such table: statejobs_nodes", sqlite3.SQLITE_ERROR),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_not_waited_for(error):
    assert not will_pass(failure(error))


def test_pauses_grow_to_a_bound_and_the_reason_is_told_once_in_a_while(caplog):
    clock, pauses = ManualClock(), []

    def sleep(seconds):
        pauses.append(seconds)
        clock.advance(seconds=seconds)

    def act():
        if len(pauses) < 10:
            raise failure(PostgresError("connection refused"))
        return "there"

    sources = Sources(clock=clock, rng=Random(7), sleep=sleep)

    assert once_there(act, sources) == "there"
    assert pauses[0] < 0.5
    assert max(pauses) < 6
    told = [r.getMessage() for r in caplog.records]
    assert set(told) == {
        "the database is away: connection refused; this process waits for it"
    }
    assert 1 < len(told) <= 1 + sum(pauses) / 10
