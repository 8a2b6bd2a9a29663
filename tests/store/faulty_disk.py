"""A disk that fails when told to: SQLite's own file system, with faults of our choice."""

from typing import Any

import apsw


class FaultyDisk(apsw.VFS):
    """The default file system of SQLite while it is entered."""

    def __init__(self) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.write_fault: type[apsw.Error] | None = None
        """Raised at each write to a file that was opened before or is opened later."""
        self.sync_fault: type[apsw.Error] | None = None
        """Raised at each fsync."""
        self.syncs = 0

    def xOpen(self, name: Any, flags: list[int]) -> "FaultyFile":  # noqa: N802  # apsw's name
        return FaultyFile(self, name, flags)


class FaultyFile(apsw.VFSFile):
    """A file of it."""

    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._disk.write_fault is not None:
            raise self._disk.write_fault("as the test asked")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.syncs += 1
        if self._disk.sync_fault is not None:
            raise self._disk.sync_fault("as the test asked")
        super().xSync(flags)
