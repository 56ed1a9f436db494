"""Running as root: which user a server runs as instead, and where that user can reach files."""

import os
import pwd
from hashlib import sha256
from pathlib import Path

from agentvoicebox.stack.commands import Account

OUTSIDE = (Path("/var/lib/agentvoicebox"), Path("/var/tmp/agentvoicebox"))  # noqa: S108 - root's own, checked below


def unprivileged_account() -> Account | None:
    """``nobody`` when this process is root, else None: no other user is needed."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(uid=65534, gid=65534, name="nobody")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, name="nobody")


def can_traverse(account: Account, path: Path) -> bool:
    """Whether the account may pass through every directory above ``path``, by the directories' modes."""
    for directory in path.absolute().parents:
        stat = directory.stat()
        if stat.st_uid == account.uid:
            passes = stat.st_mode & 0o100
        elif stat.st_gid == account.gid:
            passes = stat.st_mode & 0o010
        else:
            passes = stat.st_mode & 0o001
        if not passes:
            return False
    return True


def outside_dir(state: Path) -> Path:
    """A directory that any user can traverse, the same one for the same state directory, that survives a reboot.

    It is made when missing: under /var/lib/agentvoicebox, or under /var/tmp/agentvoicebox where /var/lib is read-only.
    """
    label = sha256(str(state.absolute()).encode()).hexdigest()[:12]
    refusals = []
    for base in OUTSIDE:
        try:
            base.mkdir(mode=0o755, exist_ok=True)
            if base.is_symlink() or base.stat().st_uid != 0:
                raise PermissionError(f"{base} does not belong to root")
            os.chmod(base, 0o755)  # noqa: S103 - every user may pass; what lies in it has its own mode
            directory = base / label
            directory.mkdir(mode=0o755, exist_ok=True)
            os.chmod(directory, 0o755)  # noqa: S103
        except OSError as error:
            refusals.append(str(error))
            continue
        return directory
    raise PermissionError(f"no directory for PostgreSQL that another user can reach: {'; '.join(refusals)}")
