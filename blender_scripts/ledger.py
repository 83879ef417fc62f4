"""Report of all attempts to render the objects of a catalogue: JSON rows in an append-only file."""

from __future__ import annotations

import collections
import fcntl
import json
import os
from pathlib import Path
from typing import TextIO

from core.errors import UserError
from core.files import atomic_path

REPORT, SETTINGS, QUARANTINE, LOCK = "render_report.jsonl", "render_settings.json", "quarantine.txt", ".render_lock"
ENDS = ("done", "timeout", "crash")
"""Statuses that end an attempt."""


class Ledger:
    """The report of a data home; one process at a time may write it.

    Args:
        home: the data home.
        settings: the render options; all clips of a home share them.

    Raises:
        UserError: the folder cannot be written, another process renders into it, or its settings are different.
    """

    def __init__(self, home: Path, settings: dict) -> None:
        self.home = home
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._lock = (home / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process renders into {home}; wait for it or choose another folder") from error
        except OSError as error:
            raise UserError(f"cannot write to {home}: {error.strerror or error}; choose another folder") from error
        self._check_settings(settings)
        for unfinished in home.glob(".*.part*"):  # of killed processes
            unfinished.unlink(missing_ok=True)
        self.rows: dict[str, list[dict]] = collections.defaultdict(list)
        path = home / REPORT
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # incomplete last line of a killed process
                continue
            self.rows[row["key"]].append(row)
        self._file: TextIO = path.open("a")
        if text and not text.endswith("\n"):
            self._file.write("\n")

    def _check_settings(self, settings: dict) -> None:
        path, text = self.home / SETTINGS, json.dumps(settings, indent=1, sort_keys=True)
        before = json.loads(path.read_text()) if path.exists() else {}
        # Options that an older version did not have: their defaults render what it rendered.
        if differ := sorted(name for name in before.keys() & settings.keys() if before[name] != settings[name]):
            raise UserError(
                f"{self.home} has clips with other render options ({', '.join(differ)}; see {path}); "
                f"choose another folder or give the same ones"
            )
        with atomic_path(path) as temporary:
            temporary.write_text(text)

    def add(self, key: str, row: dict) -> None:
        """Append a row and flush it."""
        row = {"key": key, **row}
        self.rows[key].append(row)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def attempts(self, key: str) -> int:
        """Number of hangs and crashes since the object was last finished."""
        count = 0
        for row in self.rows[key]:
            count = 0 if row["status"] == "done" else count + (row["status"] in ENDS)
        return count

    def last_try(self, key: str) -> list[dict]:
        """The rows of the object's last complete attempt."""
        ends = [0, *(i + 1 for i, row in enumerate(self.rows[key]) if row["status"] in ENDS)]
        return self.rows[key][ends[-2] : ends[-1]] if len(ends) > 1 else []

    def is_finished(self, key: str) -> bool:
        """Whether the last attempt finished and all its clips exist."""
        rows = self.last_try(key)
        files = {name for row in rows for name in row.get("files", ())}
        return bool(rows) and rows[-1]["status"] == "done" and all((self.home / name).exists() for name in files)

    def is_failed(self, key: str) -> bool:
        """Whether the last attempt had a failure."""
        return any(row["status"] in ("failed", "timeout", "crash") for row in self.last_try(key))

    def is_quarantined(self, key: str, tries: int) -> bool:
        """Whether the object hung or crashed ``tries`` times."""
        return self.attempts(key) >= tries

    def write_quarantine(self, tries: int) -> list[str]:
        """Write and return the list of quarantined objects."""
        keys = sorted(key for key in self.rows if self.is_quarantined(key, tries))
        with atomic_path(self.home / QUARANTINE) as temporary:
            temporary.write_text("".join(f"{key}\n" for key in keys))
        return keys

    def summary(self) -> dict[str, collections.Counter]:
        """Count the latest statuses of clips and files, and their reasons and notes."""
        clips: dict[tuple, dict] = {}
        for key, rows in self.rows.items():
            for row in rows:
                if row["status"] != "done":
                    clips[key, row.get("line")] = row
        statuses = collections.Counter(row["status"] for row in clips.values())
        reasons = collections.Counter(_without_names(row) for row in clips.values() if "reason" in row or "note" in row)
        return {"statuses": statuses, "reasons": reasons}

    def close(self) -> None:
        """Release the folder."""
        os.fsync(self._file.fileno())
        self._file.close()
        self._lock.close()


def _without_names(row: dict) -> str:
    reason = row.get("reason") or row["note"]
    return f"{row['status']}: " + reason.removeprefix(f"{row.get('file', row['key'])}: ").split(" (")[0]
