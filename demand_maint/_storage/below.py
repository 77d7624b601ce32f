"""Which paths lie below a root, by their text alone; the door looks at links besides."""

import os
from functools import lru_cache
from itertools import accumulate

from demand_maint.errors import PathError

__all__ = ["path_below"]

# an absolute path has an empty first part
_NO_PARTS = frozenset({"", ".", ".."})
_NO_CHARACTERS = frozenset("\\:" if os.name == "nt" else "\\")


@lru_cache(maxsize=1024)
def path_below(prefix: str, rel: str) -> tuple[str, tuple[str, ...]]:
    """Return the path of `rel` and those of the directories above it.

    Raises
    ------
    PathError
        By its text it does not stay below `prefix`.
    """
    if rel == ".":
        return prefix, ()
    parts = rel.split("/")
    if not rel.isprintable() or not _NO_PARTS.isdisjoint(parts) or not _NO_CHARACTERS.isdisjoint(rel):
        raise PathError(f"{rel!r} is no path below {prefix}. Use a relative path without '..'.")
    paths = list(accumulate(parts, lambda path, part: f"{path}{os.sep}{part}", initial=prefix))
    return paths[-1], tuple(paths[1:-1])
