"""How an app writes who acts, and finds them again: history and jobs keep a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from reprlib import repr as short
from typing import Any, Generic, TypeVar

from sqlalchemy.orm import Session

from statejobs.errors import WrongValueError
from statejobs.values.call_checks import check_call
from statejobs.values.text import NAME_LIMIT
from statejobs.values.unrun import ran

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCodec(Generic[A]):
    """Writes whatever acts as a text, and loads it again: `StateJobs(actors=ActorCodec(…))`.

    ```python
    ActorCodec(
        dump=lambda user: user.email,
        load=lambda session, text: session.scalar(
            select(User).where(User.email == text)
        ),
    )
    ```

    Args:
        dump: Takes what `acting_as` was given, unless that is a text, and returns a text.
        load: Takes the session of an action and the text, and returns who that is; None when they
            are gone, or the text is no user's but one that `acting_as` was given, or the
            `default_actor` of a trigger.

    Raises:
        DefinitionError: A function that cannot be called so.
    """

    dump: Callable[[A], str]
    load: Callable[[Session, str], A | None]

    def __post_init__(self) -> None:
        """Refuse what could not be called."""
        check_call(
            "ActorCodec(dump=…)",
            "it",
            self.dump,
            given=1,
            why="it is called with who acts, and returns a text",
            fix="dump=lambda user: str(user.id)",
        )
        check_call(
            "ActorCodec(load=…)",
            "it",
            self.load,
            given=2,
            why="it is called with the session of an action and the text",
            fix="load=lambda session, text: session.get(User, int(text))",
        )


@dataclass(slots=True)
class Actors:
    """Who acts, as text, and as those whom the text means."""

    codec: ActorCodec[Any] | None = field(default=None)
    """That of the app that was made last; None: a text is all that there is."""

    def text_of(self, actor: object) -> str | None:
        """Return the text that is stored for *actor*.

        Raises:
            WrongValueError: Nobody says how to write it, or what is written is no text.
        """
        if actor is None or isinstance(actor, str):
            return actor
        if self.codec is None:
            raise WrongValueError(
                f"acting_as({short(actor)}): history and jobs keep a text",
                fix="say StateJobs(…, actors=ActorCodec(dump=…, load=…)), or name them: "
                'acting_as("user:7")',
            )
        text = ran(self.codec.dump(actor), "dump= of", "ActorCodec")
        problem = _problem(text)
        if problem is not None:
            raise WrongValueError(
                f"ActorCodec(dump=…) returned {short(text)}, {problem}",
                fix="return what load= can find them by, such as str(user.id)",
            )
        return text

    def load(self, session: Session, text: str | None) -> Any:
        """Return whom *text* means; None when nobody is named, or they are gone."""
        if text is None or self.codec is None:
            return text
        return ran(self.codec.load(session, text), "load= of", "ActorCodec")


def _problem(text: object) -> str | None:
    if not isinstance(text, str):
        return "which is no text"
    size = len(text.encode(errors="surrogatepass"))
    return (
        f"which has {size} bytes of at most {NAME_LIMIT}" if size > NAME_LIMIT else None
    )
