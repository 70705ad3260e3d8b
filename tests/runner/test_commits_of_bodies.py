"""However a body tries to commit half of its work, the attempt fails and none of it stays."""

import pytest
from sqlalchemy.orm import Session

from tests.support import forms
from tests.support.forms import FORMS, S, board, office

NAMES = [kind.__name__ for kind in FORMS]


def fill(app, kind, count):
    """Store *count* records whose jobs wait; return their keys."""
    with app.session() as session:
        records = [kind() for _ in range(count)]
        session.add_all(records)
        session.flush()
        kind.act.enqueue_many(session, records)
        session.commit()
        return [record.id for record in records]


def by_session(session):
    session.commit()


def by_connection(session):
    session.connection().commit()


def by_transaction(session):
    session.get_transaction().commit()


@pytest.mark.parametrize("commit", [by_session, by_connection, by_transaction])
@pytest.mark.parametrize("kind", FORMS, ids=NAMES)
def test_a_body_cannot_commit_without_its_outcome(database_url, kind, commit):
    def body(_records, session, _ctx):
        forms.write_on_board(session)
        commit(session)

    with office(database_url) as app:
        fill(app, kind, 1)
        forms.script.body = body

        app.drain()

        (job,) = app.queries.jobs()
        (attempt,) = app.queries.attempts(job.id)
        assert (attempt["outcome"], board(app)) == ("failed", 0)
        assert "the runner commits" in attempt["message"]


def test_a_body_that_catches_the_refusal_goes_on(database_url):
    def body(_records, session, _ctx):
        forms.write_on_board(session)
        with pytest.raises(Exception, match="the runner commits"):
            session.connection().commit()
        forms.write_on_board(session)

    with office(database_url) as app:
        (key,) = fill(app, forms.Plain, 1)
        forms.script.body = body
        app.drain()

        with app.session() as session:
            assert session.get(forms.Plain, key).state is S.DONE
        assert board(app) == 2


def test_one_that_commits_does_not_stop_those_that_share_its_transaction(database_url):
    def body(records, session, _ctx):
        records[0].n += 1
        if records[0].id == culprit:
            session.connection().commit()

    with office(database_url) as app:
        keys = fill(app, forms.Atomic, 5)
        culprit = keys[2]
        forms.script.body = body
        app.drain()

        with app.session() as session:
            found = {k: session.get(forms.Atomic, k).state for k in keys}
    assert found == {k: S.NEW if k == culprit else S.DONE for k in keys}


def test_sessions_of_ones_own_commit_as_ever(database_url):
    def body(_records, session, _ctx):
        with Session(session.get_bind()) as own:
            forms.write_on_board(own)
            own.connection().commit()

    with office(database_url) as app:
        fill(app, forms.Plain, 1)
        forms.script.body = body
        app.drain()

        assert board(app) == 1
