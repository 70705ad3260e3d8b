"""Tells files that others may have written, and whose content must not be run."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path


def is_ours_alone(file: Path) -> bool:
    """Return whether only this user can have written *file*, or put it where it is."""
    return all(_is_ours(found) for found in (file.stat(), file.parent.stat()))


def _is_ours(found: os.stat_result) -> bool:
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        return False
    return not found.st_mode & stat.S_IWGRP or _is_private(found.st_gid)


def _is_private(gid: int) -> bool:
    """Return whether a group is its user's own, as many systems make one for each."""
    try:
        group = grp.getgrgid(gid)
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}
