"""Who acts may be anything that the app can write: history and jobs keep the text."""

import asyncio
from enum import StrEnum

import pytest
from sqlalchemy import select, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from statejobs import (
    ActingMiddleware,
    ActorCodec,
    AsyncJobContext,
    Change,
    ChunkContext,
    DefinitionError,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    WrongValueError,
    acting_as,
    state_column,
    task,
    transition,
)
from statejobs.acting import current_actor
from statejobs.store.tables import jobs
from tests.support.shop import read_history_rows, shop_engine


class Base(DeclarativeBase): ...


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"


class User(Base):
    __tablename__ = "actor_users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def sign(letter, ctx):
    letter.signed = ctx.actor.name


class Letter(StatefulResource, Base):
    __tablename__ = "actor_letters"

    id: Mapped[int] = mapped_column(primary_key=True)
    seen: Mapped[str | None]
    signed: Mapped[str | None]
    state: Mapped[S] = state_column(S, initial=S.DRAFT)

    send = Trigger.on_demand("actor.send")
    mail = Trigger.on_demand("actor.mail")
    sort = Trigger.on_demand("actor.sort", chunk=10)

    def is_ada(self, actor) -> bool:
        return actor is not None and actor.name == "ada"

    @transition(S.DRAFT, S.QUEUED, run_trigger=send)
    def submit(self) -> None: ...

    @transition(S.DRAFT, S.DONE, allow=is_ada, changes=Change(apply=sign))
    def file(self) -> None: ...

    @send.action(S.QUEUED, S.DONE)
    def run_send(self, ctx: JobContext) -> None:
        self.seen = seen(ctx)

    @mail.action(S.DRAFT, S.DONE, changes=Change(apply=sign))
    async def run_mail(self, ctx: AsyncJobContext) -> None:
        self.seen = seen(ctx)

    @sort.action(S.DRAFT, S.DONE, changes=Change(apply=sign))
    @staticmethod
    def sort_all(letters: list["Letter"], ctx: ChunkContext) -> None: ...


def seen(ctx):
    """Whom a body sees, and what is stored."""
    actor = ctx.actor
    assert ctx.actor is actor
    name = "nobody" if actor is None else getattr(actor, "name", actor)
    return f"{name} {ctx.job.actor}"


told = []


@task("actor.count")
def count(ctx: JobContext) -> None:
    told.append(seen(ctx))


@task("actor.count_async")
async def count_async(ctx: AsyncJobContext) -> None:
    told.append(seen(ctx))


def load(session, text):
    loads.append(text)
    return session.get(User, int(text.removeprefix("user:")))


loads = []
CODEC = ActorCodec(dump=lambda user: f"user:{user.id}", load=load)
DOMAIN = Domain("post", resources=[Letter], tasks=[count, count_async])


@pytest.fixture
def engine(database_url):
    with shop_engine(database_url, Base) as opened:
        with Session(opened) as session:
            session.add_all([User(id=7, name="ada"), User(id=8, name="bob")])
            session.commit()
        loads.clear()
        told.clear()
        yield opened


@pytest.fixture
def app(engine):
    with StateJobs(engine, domains=[DOMAIN], actors=CODEC) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _forget_codecs():
    yield
    for known in (Letter.__statejobs__, count.spec, count_async.spec):
        known.actors.codec = None


def actors(engine):
    return [row.actor for row in read_history_rows(engine)]


def job_actors(engine):
    with engine.connect() as connection:
        return connection.scalars(select(jobs.c.actor).order_by(jobs.c.id)).all()


def only_letter(app):
    with app.session() as session:
        return session.scalars(select(Letter)).one()


@pytest.mark.parametrize("is_foreign", [False, True])
def test_history_and_jobs_keep_the_text(app, engine, is_foreign):
    with Session(engine) if is_foreign else app.session() as session:
        ada = session.get(User, 7)
        with acting_as(ada):
            letter = Letter()
            session.add(letter)
            letter.submit()
        session.commit()

    assert actors(engine) == ["user:7", "user:7"]
    assert job_actors(engine) == ["user:7"]


def test_every_way_to_enqueue_and_to_move_writes_it(app, engine):
    with app.session() as session:
        session.add_all([Letter(), Letter()])
        session.commit()
        with acting_as(session.get(User, 8)):
            count.enqueue(session)
            Letter.run_mail.enqueue(session, session.scalars(select(Letter)).first())
            Letter.submit.bulk(session, where=true())
        session.commit()

    assert actors(engine) == [None, None, "user:8", "user:8"]
    assert set(job_actors(engine)) == {"user:8"}


def test_an_action_loads_who_asked_when_it_looks(app, engine):
    with app.session() as session:
        letter = Letter()
        session.add(letter)
        with acting_as(session.get(User, 7)):
            letter.submit()
        session.commit()

    app.drain(raise_errors=True)

    assert only_letter(app).seen == "ada user:7"
    assert loads == ["user:7"]
    assert actors(engine)[-1] == "user:7"


def test_whoever_is_gone_is_none_and_the_text_stays(app):
    with app.session() as session:
        letter = Letter()
        session.add(letter)
        with acting_as(session.get(User, 7)):
            letter.submit()
        session.delete(session.get(User, 7))
        session.commit()

    app.drain(raise_errors=True)

    assert only_letter(app).seen == "nobody user:7"


def test_an_async_action_finds_it_loaded(app):
    with app.session() as session:
        letter = Letter()
        session.add(letter)
        with acting_as(session.get(User, 7)):
            Letter.run_mail.enqueue(session, letter)
        session.commit()

    app.drain(raise_errors=True)

    assert (only_letter(app).seen, only_letter(app).signed) == ("ada user:7", "ada")


def test_a_change_of_a_chunk_is_told_who_asked(app):
    with app.session() as session:
        letters = [Letter(), Letter()]
        session.add_all(letters)
        for letter, user in zip(letters, (7, 8), strict=True):
            with acting_as(session.get(User, user)):
                Letter.sort_all.enqueue(session, letter)
        session.commit()

    app.drain(raise_errors=True)

    with app.session() as session:
        signed = session.scalars(select(Letter.signed).order_by(Letter.id)).all()
    assert signed == ["ada", "bob"]


@pytest.mark.parametrize("asked", [count, count_async])
def test_a_task_loads_who_asked(app, asked):
    with app.session() as session:
        with acting_as(session.get(User, 8)):
            asked.enqueue(session)
        asked.enqueue(session)
        session.commit()

    app.drain(raise_errors=True)

    assert told == ["bob user:8", "nobody None"]
    assert loads == ["user:8"]


def test_a_permission_is_asked_with_what_acts_itself():
    letter = Letter()

    with acting_as(User(id=7, name="ada")):
        assert letter.file.can()
        letter.file()
    with acting_as(User(id=8, name="bob")):
        assert not Letter().file.can()

    assert letter.signed == "ada"


def test_a_text_is_written_as_it_is(app, engine):
    with app.session() as session, acting_as("cron"):
        session.add(Letter())
        session.commit()

    assert actors(engine) == ["cron"]


def test_acts_by_hand_are_told_of_too(app):
    with app.session() as session:
        letter = Letter()
        session.add(letter)
        letter.submit()
        session.commit()
        ada = session.get(User, 7)

    with acting_as(ada):
        app.cancel_job(1, reason="no need")

    assert app.queries.job(1).reason == "no need (asked by user:7)"


def test_without_a_codec_a_text_is_asked_for(engine):
    with StateJobs(engine, domains=[DOMAIN]) as app, app.session() as session:
        session.add(Letter())
        with (
            acting_as(7),
            pytest.raises(WrongValueError, match=r"acting_as\(7\)") as refused,
        ):
            count.enqueue(session)

    assert "StateJobs(…, actors=ActorCodec(dump=…, load=…))" in str(refused.value)


@pytest.mark.parametrize(
    ("written", "what"),
    [(7, "which is no text"), ("x" * 600, "which has 600 bytes of at most 512")],
)
def test_what_dump_returns_must_be_storable(engine, written, what):
    codec = ActorCodec(dump=lambda user: written, load=load)
    with (
        StateJobs(engine, domains=[DOMAIN], actors=codec) as app,
        app.session() as session,
        acting_as(User(id=7)),
        pytest.raises(WrongValueError, match=what),
    ):
        count.enqueue(session)


def test_a_codec_that_could_not_be_called_is_refused(engine):
    with pytest.raises(DefinitionError, match=r"ActorCodec\(load=…\): it cannot be"):
        ActorCodec(dump=str, load=lambda text: None)
    with pytest.raises(WrongValueError, match=r"StateJobs: actors= must be an Actor"):
        StateJobs(engine, domains=[DOMAIN], actors=str)


def test_the_middleware_names_what_acts():
    async def app(scope, receive, send):
        found.append(current_actor())

    found = []
    user = User(id=7)
    middleware = ActingMiddleware(app, actor=lambda scope: scope["user"])

    asyncio.run(middleware({"type": "http", "user": user}, None, None))

    assert found == [user]
