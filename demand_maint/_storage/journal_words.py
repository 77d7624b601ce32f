"""A writer's dictionary: what its place codes and feature schemas stand for.

One JSON array per line, ``["place", code, id]`` or ``["features", number, [names]]``; a torn line is skipped. Codes 0 and 1 are
the places 0 and 1 in every dictionary, so that the writer sees by the code alone when ``True`` was meant for 1.
"""

from typing import Any

import msgspec

from demand_maint._storage.door import Door

__all__ = ["FIRST_CODE", "WriterWords", "read_words"]

FIRST_CODE = 2


class WriterWords:
    """Assigns codes, and writes each down before its first use."""

    def __init__(self, door: Door, path: str) -> None:
        self._door = door
        self._path = path
        self._next = FIRST_CODE
        self._schemas: dict[tuple[str, ...], int] = {}
        self.dirty = False

    def add_place(self, place: int | str) -> int:
        """Return the code of a place that has none yet."""
        if place.__class__ is int and 0 <= int(place) < FIRST_CODE:
            return int(place)
        code = self._next
        self._write(["place", code, place])
        self._next += 1
        return code

    def add_places(self, places: list[int | str]) -> list[int]:
        """Codes of places that have none yet, written down in one go."""
        codes: list[int] = []
        lines: list[bytes] = []
        at = self._next
        for place in places:
            if place.__class__ is int and 0 <= int(place) < FIRST_CODE:
                codes.append(int(place))
                continue
            codes.append(at)
            lines.append(msgspec.json.encode(["place", at, place]) + b"\n")
            at += 1
        if lines:
            self._door.append(self._path, b"".join(lines))
            self.dirty = True
        self._next = at
        return codes

    def schema(self, names: tuple[str, ...]) -> int:
        """Return the number of a list of feature names; 0 stands for names that are not known."""
        if not names:
            return 0
        number = self._schemas.get(names)
        if number is None:
            number = len(self._schemas) + 1
            if number > 255:
                return 0
            self._write(["features", number, names])
            self._schemas[names] = number
        return number

    def sync(self) -> None:
        """Make it durable."""
        if self.dirty:
            self.dirty = False  # first: what another thread adds meanwhile may miss this time
            try:
                self._door.sync_file(self._path)
            except OSError:
                self.dirty = True
                raise

    def _write(self, entry: list[Any]) -> None:
        self._door.append(self._path, msgspec.json.encode(entry) + b"\n")
        self.dirty = True


def read_words(data: bytes) -> tuple[dict[int, int | str], dict[int, tuple[str, ...]]]:
    r"""Places by code and feature names by schema number.

    >>> read_words(b'["place",2,"harbour"]\n["pla')
    ({0: 0, 1: 1, 2: 'harbour'}, {})
    """
    places: dict[int, int | str] = {0: 0, 1: 1}
    schemas: dict[int, tuple[str, ...]] = {}
    for line in data.split(b"\n"):
        try:
            kind, number, value = msgspec.json.decode(line)
        except (msgspec.MsgspecError, TypeError, ValueError):
            continue
        if kind == "place" and isinstance(value, int | str):
            places[number] = value
        elif kind == "features" and isinstance(value, list):
            schemas[number] = tuple(value)
    return places, schemas
