"""The manager's memory on disk: ``logs/model_manager_state.json``.

Deleting the file forgets attempts and cooldowns; dates and counts of deployed models are read from the commits.
"""

import msgspec

from demand_maint._storage.door import Door, Stamp
from demand_maint._storage.layout import LOGS
from demand_maint.core.ledger import LEDGER_FORMAT, MaintenanceLedger
from demand_maint.errors import NewerFormatError
from demand_maint.log import get_logger

__all__ = ["LEDGER_FILE", "LedgerFile"]

LEDGER_FILE = f"{LOGS}/model_manager_state.json"
MAX_BYTES = 16 << 20

_log = get_logger("manager")


class LedgerFile:
    """Reads and replaces the ledger of one root; a file that is still the same is not read again."""

    __slots__ = ("_door", "_known")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._known: tuple[Stamp | None, MaintenanceLedger] = (None, MaintenanceLedger())

    def load(self) -> MaintenanceLedger:
        """Return the ledger; an empty one where there is no file, or one that was set aside because it is damaged.

        Raises
        ------
        NewerFormatError
            A newer release wrote it.
        """
        stamp = self._door.stamp(LEDGER_FILE)
        if stamp is None:
            return MaintenanceLedger()
        if stamp != self._known[0]:
            self._known = (stamp, self._read())
        return self._known[1]

    def _read(self) -> MaintenanceLedger:
        try:
            data = self._door.read_bytes(LEDGER_FILE, limit=MAX_BYTES)
        except FileNotFoundError:
            return MaintenanceLedger()
        try:
            ledger = msgspec.json.decode(data, type=MaintenanceLedger)
        except (msgspec.DecodeError, RecursionError) as error:
            _log.warning("the manager's state is damaged and set aside", file=LEDGER_FILE, reason=str(error))
            self._door.rename(LEDGER_FILE, f"{LEDGER_FILE}.damaged")
            return MaintenanceLedger()
        if ledger.format > LEDGER_FORMAT:
            raise NewerFormatError(
                f"{LEDGER_FILE} has format {ledger.format}; this release reads up to {LEDGER_FORMAT}. "
                "Upgrade, or delete the file to forget attempts and cooldowns."
            )
        return ledger

    def save(self, ledger: MaintenanceLedger) -> None:
        """Replace the file, whole."""
        data = msgspec.json.format(msgspec.json.encode(ledger)) + b"\n"
        self._known = (self._door.replace(LEDGER_FILE, data), ledger)
