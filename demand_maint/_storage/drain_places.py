"""Places of a root: writers number theirs as they meet them, the root has one code for each."""

import numpy as np
from numpy.typing import NDArray

from demand_maint._storage.door import Door
from demand_maint._storage.drain_rows import UNKNOWN, DrainedRows, Place, WriterState
from demand_maint._storage.journal import JOURNAL, WORDS_NAME
from demand_maint._storage.journal_words import read_words
from demand_maint._storage.segments import Rows, chosen
from demand_maint.core.rounds import Rhythm, find_rhythm
from demand_maint.log import get_logger

__all__ = ["PlaceDictionary"]

Floats = NDArray[np.float64]
_MANY = 1024  # rows from which on it pays to look for rounds
_log = get_logger("drain")


class PlaceDictionary:
    """Codes of places.

    Parameters
    ----------
    door
        The root's door.
    places
        Place ids by dense code; grows as new ones are met.

    Attributes
    ----------
    codes
        Dense code by place.
    """

    def __init__(self, door: Door, places: list[Place]) -> None:
        self._door = door
        self._places = places
        self.codes: dict[Place, int] = {place: code for code, place in enumerate(places)}
        # places of the last round that was seen, and as often as they were needed
        self._round = self._rounds = np.empty(0, dtype=np.uint32)

    def code_of(self, place: Place) -> int:
        """Dense code of a place, made where there is none."""
        code = self.codes.get(place)
        if code is None:
            code = self.codes[place] = len(self._places)
            self._places.append(place)
        return code

    def read(self, writer: WriterState) -> None:
        """Look again into the dictionary of a writer."""
        path = f"{JOURNAL}/{writer.name}/{WORDS_NAME}"
        try:
            data = self._door.read_bytes(path)
        except FileNotFoundError:
            data = b""
        if len(data) == writer.words_size:
            return
        writer.words_size = len(data)
        places, writer.schemas = read_words(data)
        writer.places = places

    def give(self, writer: WriterState, rows: Rows, observed: Floats, before: Floats) -> DrainedRows:
        """Give rows the root's place codes; those whose place is not written down are left out."""
        if not len(rows):
            return DrainedRows(writer.name, rows, rows.place, observed, before)
        rhythm = find_rhythm(rows.place, rows.time) if len(rows) >= _MANY else None
        codes = self._codes_of(writer, rows.place if rhythm is None else rhythm.places)
        place = codes
        if rhythm is not None:
            rhythm = rhythm.of_other(codes)
            place = self._repeated(rhythm, len(rows))
        if int(codes.max()) == UNKNOWN:
            good = place != UNKNOWN
            _log.warning("place_unknown", writer=writer.name, rows=int((~good).sum()))
            rows, place, observed, before = chosen(rows, good), place[good], observed[good], before[good]
            rhythm = None
        return DrainedRows(writer.name, rows, place, observed, before, rhythm)

    def _repeated(self, rhythm: Rhythm, rows: int) -> NDArray[np.uint32]:
        """Places of so many rows, which nobody may write to: those of parts whose rounds are alike share their memory."""
        need = rhythm.begun + rows
        if len(self._rounds) < need or not np.array_equal(self._round, rhythm.places):
            self._round, self._rounds = rhythm.places, np.tile(rhythm.places, need // len(rhythm.places) + 1)
        return self._rounds[rhythm.begun : need]

    def _codes_of(self, writer: WriterState, local: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Codes of the root for a writer's own, `UNKNOWN` for places that are not written down."""
        top = int(local.max())
        if top >= len(writer.codes):
            more = np.full(top + 1 - len(writer.codes), UNKNOWN, dtype=np.uint32)
            writer.codes = np.concatenate([writer.codes, more])
        place = writer.codes.take(local)
        if int(place.max()) == UNKNOWN:
            self._learn(writer, np.flatnonzero(np.bincount(local[place == UNKNOWN])))
            place = writer.codes.take(local)
        return place

    def _learn(self, writer: WriterState, new: NDArray[np.intp]) -> None:
        """Give the places of these codes of a writer codes of the root, as far as they are written down."""
        writer.words_size = -1
        self.read(writer)
        known = [code for code in new.tolist() if code in writer.places]
        writer.codes[known] = [self.code_of(writer.places[code]) for code in known]
