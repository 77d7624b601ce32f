"""Every disk that a crash can leave behind: each prefix of a trace, and of what was not yet synced any part."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recording_disk import ROOT_INODE, Op

TORN_SHAPES = ("half", "zeros")


@dataclass(slots=True)
class Image:
    """A disk's content: names by directory, bytes by file."""

    names: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT_INODE: {}})
    files: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "Image":
        """Copy, so that ops can be applied to it."""
        return Image({inode: dict(names) for inode, names in self.names.items()}, dict(self.files))

    def apply(self, op: Op, torn: str = "") -> None:
        """Apply one op of a trace."""
        kind = op[0]
        if kind == "add":
            self.names.setdefault(op[1], {})[op[2]] = op[3]
        elif kind == "del":
            self.names.setdefault(op[1], {}).pop(op[2], None)
        elif kind == "move":
            self.names.setdefault(op[1], {}).pop(op[2], None)
            self.names.setdefault(op[3], {})[op[4]] = op[5]
        elif kind == "cut":
            self.files[op[1]] = self.files.get(op[1], b"")[: op[2]].ljust(op[2], b"\0")
        elif kind == "data":
            data = {"": op[3], "half": op[3][: len(op[3]) // 2], "zeros": bytes(len(op[3]))}[torn]
            before = self.files.get(op[1], b"").ljust(op[2], b"\0")
            self.files[op[1]] = before[: op[2]] + data + before[op[2] + len(data) :]

    def write(self, root: Path, directories: set[int], inode: int = ROOT_INODE) -> None:
        """Make it a real tree at `root`."""
        root.mkdir()
        for name, inner in self.names.get(inode, {}).items():
            if inner in directories:
                self.write(root / name, directories, inner)
            else:
                descriptor = os.open(root / name, os.O_WRONLY | os.O_CREAT, 0o644)
                os.write(descriptor, self.files.get(inner, b""))
                os.close(descriptor)

    def signature(self, directories: set[int], inode: int = ROOT_INODE) -> Any:
        """Equal for equal trees."""
        return tuple(
            (name, self.signature(directories, inner) if inner in directories else self.files.get(inner, b""))
            for name, inner in sorted(self.names.get(inode, {}).items())
        )


@dataclass(frozen=True, slots=True)
class CrashState:
    """One disk after a crash: `acked` acknowledgements had been given; a kill loses nothing, a power cut what was not synced."""

    image: Image
    cut: int
    acked: int
    is_kill: bool


def crash_states(trace: list[Op], seed: int, subsets: int, start: int = 0) -> Iterator[CrashState]:
    """Enumerate crashes of `trace` from op `start` on.

    For each prefix: all of the pending ops, none, each one missing, each one only, `subsets` random subsets, and the last
    writes torn (half of the bytes, or zeros in their place).
    """
    chance = random.Random(seed)
    durable, acked = Image(), 0
    pending: list[int] = []
    for cut in range(len(trace) + 1):
        if cut:
            op = trace[cut - 1]
            acked += op[0] == "ack"
            pending = _after(op, cut - 1, trace, pending, durable)
        if cut >= start:
            for keep, torn in _choices(trace, pending, chance, subsets):
                image = durable.copy()
                for at in keep:
                    image.apply(trace[at], torn.get(at, ""))
                yield CrashState(image, cut, acked, len(keep) == len(pending) and not torn)


def _after(op: Op, at: int, trace: list[Op], pending: list[int], durable: Image) -> list[int]:
    """Pending ops after one more; what it made durable goes into `durable` (the two commute)."""
    if op[0] == "ack":
        return pending
    if op[0] not in {"sync", "syncdir"}:
        return [*pending, at]
    left: list[int] = []
    for index in pending:
        if _makes_durable(op, trace[index]):
            durable.apply(trace[index])
        else:
            left.append(index)
    return left


def _makes_durable(sync: Op, op: Op) -> bool:
    if sync[0] == "sync":
        return op[0] in {"data", "cut"} and bool(op[1] == sync[1])
    return (op[0] in {"add", "del"} and bool(op[1] == sync[1])) or (op[0] == "move" and bool(op[3] == sync[1]))


def _choices(
    trace: list[Op], pending: list[int], chance: random.Random, subsets: int
) -> Iterator[tuple[list[int], dict[int, str]]]:
    seen: set[tuple[Any, ...]] = set()
    keeps: list[list[int]] = [pending, []]
    keeps += [[index for index in pending if index != one] for one in pending]
    keeps += [[one] for one in pending]
    if len(pending) > 2:
        keeps += [[index for index in pending if chance.random() < 0.5] for _ in range(subsets)]
    for keep in keeps:
        if (key := tuple(keep)) not in seen:
            seen.add(key)
            yield keep, {}
    for index in [index for index in pending if trace[index][0] == "data"][-3:]:
        for shape in TORN_SHAPES:
            yield pending, {index: shape}
