"""What a database administrator, a newer version or an accident does to single rows."""

from sqlalchemy import text


def execute(app, *statements):
    """Run SQL of somebody's own, and commit it."""
    with app.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def is_postgres(app):
    """Whether *app* is on PostgreSQL."""
    return app.engine.dialect.name == "postgresql"


def refuse_updates(app, table, when, *, name="no_way", sqlstate="P0001"):
    """Let a trigger of the database refuse every UPDATE of *table* for which *when* holds.

    It may name any *sqlstate* of PostgreSQL.
    """
    raising = f"{_RAISE} USING ERRCODE = '{sqlstate}'"
    _make_trigger(
        app, "UPDATE", table, when, name=name, on_postgres=raising, on_sqlite=_ABORT
    )


def refuse_deletes(app, table, when, *, name="no_way"):
    """Let a trigger of the database refuse every DELETE of *table* for which *when* holds."""
    _make_trigger(
        app, "DELETE", table, when, name=name, on_postgres=_RAISE, on_sqlite=_ABORT
    )


def swallow_updates(app, table, when, *, name="no_way"):
    """Let a trigger of the database leave out, without an error, UPDATEs for which *when* holds."""
    _make_trigger(
        app,
        "UPDATE",
        table,
        when,
        name=name,
        on_postgres="RETURN NULL",
        on_sqlite="RAISE(IGNORE)",
    )


def swallow_redundant_updates(app, table, columns, *, name="no_way"):
    """Let the database leave out UPDATEs that change none of *columns* of *table*."""
    if is_postgres(app):
        execute(
            app,
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        )
    else:
        same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in columns)
        swallow_updates(app, table, same, name=name)


def _make_trigger(app, event, table, when, *, name, on_postgres, on_sqlite):
    if is_postgres(app):
        execute(
            app,
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {on_postgres}; END $$",
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW"
            f" WHEN ({when}) EXECUTE FUNCTION {name}()",
        )
    else:
        execute(
            app,
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {when}"
            f" BEGIN SELECT {on_sqlite}; END",
        )


_RAISE = "RAISE EXCEPTION 'the auditor says no'"
_ABORT = "RAISE(ABORT, 'the auditor says no')"


def allow_updates(app, table, *, name="no_way"):
    """Drop the trigger again."""
    on = f" ON {table}" if is_postgres(app) else ""
    execute(app, f"DROP TRIGGER {name}{on}")


def put_in_state(app, table, key, state):
    """Put a record into a state that this code does not know, as a newer version does."""
    if is_postgres(app):
        with app.engine.begin() as connection:
            names = connection.scalars(
                text(
                    "SELECT conname FROM pg_constraint"
                    f" WHERE contype = 'c' AND conrelid = '{table}'::regclass"
                )
            ).all()
            for name in names:
                connection.execute(
                    text(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
                )
        execute(app, f"UPDATE {table} SET state = '{state}' WHERE id = {key}")
        return
    with app.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql(
            f"UPDATE {table} SET state = '{state}' WHERE id = {key}"
        )
        connection.commit()
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = OFF")
