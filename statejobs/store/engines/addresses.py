"""Where a database is, as people see it."""

from __future__ import annotations

from sqlalchemy import URL

_ADDRESS = ("host", "port")
"""Options of a URL that say where the server is, as `?host=/run/postgresql` does."""


def shown_url(url: URL) -> str:
    """Return *url* without password, driver, and options that are no address."""
    address = {name: url.query[name] for name in _ADDRESS if name in url.query}
    plain = url.set(drivername=url.get_backend_name(), query=address)
    if not plain.password:
        plain = plain._replace(password=None)  # `***` would tell of one
    return plain.render_as_string(hide_password=True)
