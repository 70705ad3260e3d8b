"""How loud a line of the log is, by the names and numbers of `logging`."""

from typing import Literal

LogLevel = Literal["debug", "info", "warning", "error", "critical"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
