"""A transition as its class shows it: what was declared, and how to fire it on many records."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from sqlalchemy import ColumnExpressionArgument
from sqlalchemy.orm import Session

from statejobs.errors import WrongCallError
from statejobs.record.bulk.checks import Values
from statejobs.record.bulk.fire import count_in_bulk, move_in_bulk
from statejobs.record.sessions import refuse_async, refuse_sync
from statejobs.record.specs import TransitionSpec
from statejobs.values.job import BulkDryRun, BulkResult
from statejobs.values.kinds import check_kind, check_mapping, check_whole

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R")


class TransitionOnClass(Generic[R]):
    """What `Order.submit` is."""

    def __init__(self, spec: TransitionSpec, cls: type[R]) -> None:
        self.spec = spec
        self._cls = cls
        update_wrapper(self, spec.body)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The method's name."""
        return self.spec.name

    @property
    def source(self) -> tuple[enum.Enum, ...]:
        """States from which it starts."""
        return self.spec.source

    @property
    def target(self) -> enum.Enum:
        """State to which it leads."""
        return self.spec.target

    @overload
    def bulk(
        self,
        session: Session,
        *,
        where: ColumnExpressionArgument[bool],
        values: Values | None = None,
        args: Mapping[str, object] | None = None,
        limit: int | None = None,
        dry_run: Literal[False] = False,
    ) -> BulkResult: ...
    @overload
    def bulk(
        self,
        session: Session,
        *,
        where: ColumnExpressionArgument[bool],
        values: Values | None = None,
        args: Mapping[str, object] | None = None,
        limit: int | None = None,
        dry_run: Literal[True],
    ) -> BulkDryRun: ...
    def bulk(
        self,
        session: Session,
        *,
        where: ColumnExpressionArgument[bool],
        values: Values | None = None,
        args: Mapping[str, object] | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult | BulkDryRun:
        """Fire it, in the transaction of *session*, on all records that are in a source and match.

        States, history and jobs are written by SQL. Records are loaded only for a trigger that
        makes `args=` or `meta=` from its record, 1,000 at a time, after their move. Records whose
        guards say no are left where they are. Records that the session holds show their new state.

        Args:
            session: It is flushed first.
            where: Condition on columns; `true()` for all.
            values: What to write with the state: attribute or name → value or SQL expression. It
                stands for the body, which does not run, so a body that does something needs it.
            args: The transition's arguments, for the history.
            limit: Most records to move; call again, a commit each, until none is moved. Those that
                others hold are taken when no other is left.
            dry_run: Only count what it would do, with one SELECT, and write nothing.

        Raises:
            BulkError: A guard or a body cannot be expressed in SQL.
            ArgumentsError: *args* do not fit the transition.
            StaleTransitionError: Another transaction is moving one of the records.
        """
        check_whole(f"{self.name}.bulk(limit=…)", limit, least=1, or_none=True)
        for name, given in (("values", values), ("args", args)):
            if given is not None:
                check_mapping(
                    f"{self.name}.bulk({name}=…)", given, example=f"{name}={{…: …}}"
                )
        check_kind(
            f"{self.name}.bulk(dry_run=…)", dry_run, bool, example="dry_run=True"
        )
        refuse_async(session, "bulk", instead="await ….bulk_async(session, where=…)")
        act = count_in_bulk if dry_run else move_in_bulk
        return act(
            session,
            self._cls,
            self.spec,
            where=where,
            values=values,
            args=args,
            limit=limit,
        )

    @overload
    async def bulk_async(
        self,
        session: AsyncSession,
        *,
        where: ColumnExpressionArgument[bool],
        values: Values | None = None,
        args: Mapping[str, object] | None = None,
        limit: int | None = None,
        dry_run: Literal[False] = False,
    ) -> BulkResult: ...
    @overload
    async def bulk_async(
        self,
        session: AsyncSession,
        *,
        where: ColumnExpressionArgument[bool],
        values: Values | None = None,
        args: Mapping[str, object] | None = None,
        limit: int | None = None,
        dry_run: Literal[True],
    ) -> BulkDryRun: ...
    async def bulk_async(
        self,
        session: AsyncSession,
        *,
        where: ColumnExpressionArgument[bool],
        values: Values | None = None,
        args: Mapping[str, object] | None = None,
        limit: int | None = None,
        dry_run: bool = False,
    ) -> BulkResult | BulkDryRun:
        """As `bulk`, through an `AsyncSession`."""
        refuse_sync(session, "bulk_async", instead="….bulk(session, where=…)")
        act: Any = partial(self.bulk, dry_run=dry_run)
        return await session.run_sync(
            lambda sync: act(sync, where=where, values=values, args=args, limit=limit)
        )

    if not TYPE_CHECKING:

        def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
            """Say how to fire it."""
            raise WrongCallError(
                f"{self._cls.__name__}.{self.name} is of the class",
                fix=(
                    f"fire it on a record: record.{self.name}(…), or on many: "
                    f"{self._cls.__name__}.{self.name}.bulk(session, where=…)"
                ),
            )

    def __repr__(self) -> str:
        return repr(self.spec)
