"""An app whose words steer terminals, and whose arguments are secrets."""

from enum import StrEnum

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from statejobs import (
    Cancel,
    Domain,
    JobContext,
    StatefulResource,
    StateJobs,
    Trigger,
    state_column,
    task,
    transition,
)

SECRETS = {
    "password": "hunter2pw",
    "access_key": "hunter2ak",
    "private_key": "hunter2pk",
    "passphrase": "hunter2pp",
    "client_credential": "hunter2cr",
    "session": "hunter2se",
    "card_number": "hunter2cn",
}
"""The last is one of this app alone."""
SPOKEN = (
    "login --password hunter2pw failed: access-key=hunter2ak, 'private_key': 'hunter2pk', "
    "Passphrase: hunter2pp, client_credential = hunter2cr, session=hunter2se, "
    "cardNumber=hunter2cn at https://ada:hunter2ur@example.com"
)
"""Whatever is secret, as errors and reasons speak of it."""


class Base(DeclarativeBase):
    """The user's base."""


class S(StrEnum):
    DRAFT = "draft"
    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"


class Letter(StatefulResource, Base):
    __tablename__ = "letters"

    id: Mapped[str] = mapped_column(primary_key=True)
    says: Mapped[str]
    state: Mapped[S] = state_column(S, initial=S.DRAFT, final=(S.SENT,))

    send = Trigger.on_demand("letter.send", max_attempts=1)

    @transition(S.DRAFT, S.QUEUED, run_trigger=send)
    def submit(self) -> None:
        """Send it."""

    @transition(S.DRAFT, S.DRAFT)
    def note(self, words: dict[str, str]) -> None:
        """Write something down."""

    @send.action(S.QUEUED, S.SENT, failed=S.FAILED)
    def put_into_the_box(self, ctx: JobContext) -> None:
        raise ValueError(self.says)


@task("loud.login", max_attempts=1)
def login(words: dict[str, str], says: str) -> None:
    assert words
    raise ValueError(says)


@task("loud.stop")
def stop(says: str) -> None:
    raise Cancel(says)


@task("loud.silent", queue="quiet")
def silent(words: dict[str, str]) -> None:
    """Waits in a queue that nobody serves."""


def make_app(database: str) -> StateJobs:
    """The app; it also hides card numbers."""
    domain = Domain("loud", resources=[Letter], tasks=[login, stop, silent])
    return StateJobs(database, domains=[domain], redact=["card_number"])
