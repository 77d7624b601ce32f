"""A disk whose n-th call fails."""

from typing import Any

from registry_life import NoSyncDisk


class FailingDisk(NoSyncDisk):
    """Counts every call; the one numbered `fail_at` raises `code`, and all after it too where `sticky`."""

    def __init__(self) -> None:
        self.calls = 0
        self.fail_at = 0
        self.code = 0
        self.sticky = False
        self.hit = ""

    def arm(self, fail_at: int, code: int, *, sticky: bool) -> None:
        """Let a call fail, counted from now."""
        self.calls, self.fail_at, self.code, self.sticky, self.hit = 0, fail_at, code, sticky, ""

    def clear(self) -> None:
        """Let everything work again."""
        self.fail_at = 0

    def _count(self, name: str) -> None:
        self.calls += 1
        due = self.calls >= self.fail_at if self.sticky else self.calls == self.fail_at
        if self.fail_at and due:
            self.hit = self.hit or name
            raise OSError(self.code, f"injected into {name}")


def _counted(name: str) -> Any:
    def call(self: FailingDisk, *arguments: Any) -> Any:
        self._count(name)
        return getattr(super(FailingDisk, self), name)(*arguments)

    return call


CALLS = (
    "create", "open_append", "open_update", "open_lock", "open_read", "write", "write_at", "truncate", "allocate", "map", "sync",
    "sync_dir", "lock", "link", "rename", "unlink", "make_dir", "remove_dir", "list", "stat", "read", "read_last",
    "regular_size", "facts",
)  # fmt: skip
for _name in CALLS:
    setattr(FailingDisk, _name, _counted(_name))
