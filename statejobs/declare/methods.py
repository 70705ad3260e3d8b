"""What the decorators of a class may be put on."""

from __future__ import annotations

from statejobs.errors import DefinitionError
from statejobs.values.article import indefinite


def check_method(body: object, kind: str) -> None:
    """Refuse what is no method of a record.

    Args:
        body: What stands under the decorator.
        kind: What the decorator makes of it.

    Raises:
        DefinitionError: A class, a class method, a property, or an object without a name.
    """
    if callable(body) and not isinstance(body, type) and hasattr(body, "__qualname__"):
        return
    what = "class" if isinstance(body, type) else type(body).__name__
    place = _place(body)
    name = place.rpartition(".")[2]
    raise DefinitionError(
        place,
        f"@{kind} is put on {indefinite(what)}, not on a method",
        why="it belongs to one record, which is passed as `self`",
        fix=f"put it on a plain method, as the outermost decorator: def {name}(self, …)",
    )


def _place(body: object) -> str:
    """Return the class and the name of *body*, as far as it has them."""
    # property, partial
    plain = getattr(body, "fget", None) or getattr(body, "func", body)
    name: str = getattr(plain, "__qualname__", "") or getattr(plain, "__name__", "send")
    return ".".join(name.split(".")[-2:])
