"""What an error means to whoever started a command: its exit code, and its sentence with what to do.

Every command line of the package reads this table: ``demand-maint`` and the ``python -m demand_maint.…`` forms.
"""

import errno

from demand_maint.errors import (
    ConfigError,
    DeployRefusedError,
    IncompatibleBaseError,
    MaintainerBusyError,
    ModelFileError,
    PathError,
    SchemaMismatchError,
)

__all__ = ["ACTION_NEEDED", "BUSY", "DONE", "EPILOG", "FAILED", "INTERRUPTED", "REFUSED", "STATUS_CODES", "USAGE", "exit_code", "sentence"]  # fmt: skip

DONE, FAILED, USAGE, ACTION_NEEDED, REFUSED, BUSY, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EPILOG = (
    "exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 action needed (--exit-code), "
    "4 refused by the gate, 5 another process maintains this root"
)

#: Codes of what a check came to; what is not here is done.
STATUS_CODES = {"failed": FAILED, "rejected": REFUSED, "vetoed": REFUSED, "busy": BUSY}

_REFUSALS = (DeployRefusedError, SchemaMismatchError, ModelFileError, IncompatibleBaseError, PathError)
_REMEDIES = {
    errno.ENOSPC: "Free disk space.",
    errno.EDQUOT: "Free disk space, or raise the quota.",
    errno.EROFS: "Make the root writable.",
    errno.EACCES: "Give this user the right to it.",
    errno.EPERM: "Give this user the right to it.",
}


def exit_code(error: Exception) -> int:
    """Return the exit code that an error stands for."""
    if isinstance(error, MaintainerBusyError):
        return BUSY
    if isinstance(error, _REFUSALS):
        return REFUSED
    return USAGE if isinstance(error, ConfigError) else FAILED


def sentence(error: Exception) -> str:
    """Say what happened and what to do, as every error of this package does by itself.

    >>> sentence(OSError(errno.ENOSPC, "No space left on device", "logs/x"))
    'No space left on device: logs/x. Free disk space.'
    """
    remedy = _REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    if remedy is None or not isinstance(error, OSError):
        return str(error)
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}. {remedy}"
