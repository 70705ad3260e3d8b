"""Says why a record is not found: it is gone, or the database hides it from this role."""

from __future__ import annotations

import logging

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import OID

from statejobs.resource.model import ResourceModel

log = logging.getLogger("statejobs.runner")


def why_missing(connection: Connection, model: ResourceModel) -> str:
    """Return why a record of *model* is not found, in words that follow `its record is`."""
    if connection.dialect.name != "postgresql":
        return "gone"
    table = connection.dialect.identifier_preparer.format_table(model.table)
    found = func.to_regclass(table).cast(OID)
    is_active, role = connection.execute(
        select(func.row_security_active(found), text("current_user"))
    ).one()
    if not is_active:
        return "gone"
    log.warning(
        "row security on %s applies to the role %s of this worker: records that it hides look as "
        "if they were gone, and their jobs are cancelled. Let the policy show them, or grant the "
        "role BYPASSRLS", table, role,
    )  # fmt: skip
    return f"gone, or row security on {table} hides it from the role {role}"
