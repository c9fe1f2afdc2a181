"""What is prepared on this node: one durable file for each claim, and the ledger that is made of them.

Purpose: a reservation is durable before anybody is told of it, and no two agents give out the same MiB twice.

Flow of `reserve`, in one thread:

    temporary file, write, fsync            (any number of claims at a time)
    lock; what did the other agent change?; check-and-reserve; announce; rename; unlock     (microseconds)
    fsync of the folder                     (any number of claims at a time)

Layout of the folder: `lock`, `changes`, `answers/` (of the module of that name), `claims/<uid>.json`, and
beside a damaged record what was set aside, `claims/<uid>.json.unreadable-<n>`.

Damaged records: nobody knows what they held, and a container may still run on it. So no card is given to
anybody else until the claim is prepared again, unprepared, or `collecting` finds out from the kubelet; of a
newer version's record that is intact, the cards that it names. A record that is gone though nobody announced
that is in doubt as well, about the cards that it named. `problems` says so meanwhile.

Limits: blocks, for threads only, except `records`, `doubts`, `problems`, `find`, `use` and `mark_releasing`,
which touch memory alone and wait for no lock.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from driver.cards import Card
from kubelet_plugin.prepare.answers import Answers
from kubelet_plugin.prepare.changes import ChangeLog
from kubelet_plugin.prepare.durable import (
    TEMPORARY,
    Staged,
    make_folder,
    remove_leftovers,
    stage,
    storage_errors,
    sync_folder,
)
from kubelet_plugin.prepare.folder_lock import FolderLock, StateBusyError
from kubelet_plugin.prepare.ledger import CardUse, Ledger
from kubelet_plugin.prepare.phases import Phases
from kubelet_plugin.prepare.records import (
    CLAIM_UID,
    ClaimRecord,
    StateDamagedError,
    StateNewerError,
    decode,
    devices_named,
    encode,
)

_SUFFIX = ".json"
_ASIDE = ".json.unreadable-"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A record that could not be read.

    Attributes:
        uid: UID of its claim.
        problem: A sentence for the node's conditions.
        newer: It was written by a newer version, which must find it again.
    """

    uid: str
    problem: str
    newer: bool


class StateFolder:
    """The records of this node's prepared claims."""

    def __init__(self, folder: Path, *, phases: Phases, lock_wait_s: float = 5.0) -> None:
        self._claims = folder / "claims"
        self._lock = FolderLock(folder / "lock", wait_s=lock_wait_s)
        self._changes = ChangeLog(folder / "changes")
        self._answers = Answers(folder / "answers")
        self._phases = phases
        self._ledger = Ledger()
        self._records: dict[str, ClaimRecord] = {}
        self._doubts: dict[str, Doubt] = {}
        self._strangers: dict[str, str] = {}
        self._lost: set[str] = set()

    def open(self) -> None:
        """Reads all records and removes what a killed agent left half done.

        Raises:
            StateError: Another agent holds the lock for too long.
            NodeStorageError: The folder cannot be made or read.
        """
        with storage_errors(self._claims):
            make_folder(self._claims, mode=0o700)
            self._lock.open()
            remove_leftovers(self._claims)
        # The first look at the folder reads everything.
        self.refresh()
        with self._exclusive(), storage_errors(self._claims):
            self._answers.open(is_known=lambda uid: uid in self._records or uid in self._doubts)

    def close(self) -> None:
        """Gives lock and files back."""
        self._lock.close()
        self._changes.close()

    @property
    def records(self) -> Mapping[str, ClaimRecord]:
        """All readable records by UID, as of the last look at the folder; a copy."""
        return dict(self._records)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Records that could not be read and are not resolved yet."""
        return tuple(self._doubts.values())

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about what an administrator should know."""
        return (*(doubt.problem for doubt in self.doubts), *self._strangers.values())

    def find(self, uid: str) -> ClaimRecord | None:
        """A claim's record as of the last look at the folder."""
        return self._records.get(uid)

    def use(self, device: str) -> CardUse:
        """What is held of a card."""
        return self._ledger.use(device)

    def mark_releasing(self, uid: str) -> None:
        """Notes that a claim's release is under way, for the wording of refusals."""
        self._ledger.mark_releasing(uid)

    def refresh(self) -> None:
        """Takes in what the other agent changed."""
        with self._exclusive():
            pass

    def look(self) -> None:
        """Takes in what the other agent changed, and what was removed by nobody's announcement."""
        with self._exclusive():
            self._note_losses()

    def answer(self, uid: str, *, allocation: str | None) -> ClaimRecord | None:
        """A claim's record, for a reply: whoever made it does not take it back from now on.

        Args:
            uid: UID of the claim.
            allocation: Fingerprint of the allocation now; None where nobody can say.

        Returns:
            None where there is no record, or one of another allocation.

        Raises:
            StateError: The lock is not to be had, or another agent takes the record back at this moment.
        """
        with self._exclusive():
            record = self._records.get(uid)
            if record is None or allocation not in (None, record.allocation):
                return None
            self._mark_answered(uid)
            return record

    @contextlib.contextmanager
    def taking_back(self, uid: str) -> Iterator[bool]:
        """Keeps others from answering from a record of ours while it is undone.

        Yields:
            False where another agent has answered from it, so that it has to stay.

        Raises:
            StateError: The lock is not to be had.
        """
        with self._exclusive(), storage_errors(self._path(uid)):
            held = self._answers.take_back(uid)
        with held or contextlib.nullcontext():
            yield held is not None

    def _mark_answered(self, uid: str) -> None:
        if not self._answers.answer(uid):
            raise StateBusyError(
                f"Another agent on this node failed to prepare claim {uid} and is taking back what it made.",
                remedy="The kubelet tries again.",
            )

    def reserve(
        self, record: ClaimRecord, *, cards: Mapping[str, Card], as_before: bool = False
    ) -> tuple[ClaimRecord, bool]:
        """Makes a reservation, durably.

        Args:
            record: What is to be kept.
            cards: The node's cards.
            as_before: The claim's record is in doubt, and something beside it shows that it held the same.

        Returns:
            The claim's record in force, and whether this call made it: False where there was one already.

        Raises:
            OverCommitError: A card has not enough left; a subclass where waiting helps.
            DeviceGoneError: A card is not there.
            StateError: The lock is not to be had, or a newer version's record is in the way.
            NodeStorageError: The record cannot be kept.
        """
        target = self._path(record.uid)
        made = False
        with contextlib.ExitStack() as stack:
            with self._phases.time("state"):
                staged = stack.enter_context(stage(target, encode(record), mode=0o600))
            with self._phases.time("guard"), self._exclusive():
                known = self._records.get(record.uid)
                if known is None:
                    self._take(record, staged, cards=cards, as_before=as_before)
                    self._answers.made(record.uid)
                    known, made = record, True
                else:
                    self._mark_answered(record.uid)
        # Also where the other agent made it: its reply may not be out yet, nor its record durable.
        with self._phases.time("state"), storage_errors(target):
            sync_folder(self._claims)
        return known, made

    def _take(
        self, record: ClaimRecord, staged: Staged, *, cards: Mapping[str, Card], as_before: bool
    ) -> None:
        doubt = self._doubts.get(record.uid)
        if doubt is not None and doubt.newer:
            raise StateNewerError(doubt.problem)
        shares = [item.share for item in record.shares]
        if doubt is not None:
            as_before = as_before or self._was_allocated(record)
        self._ledger.check_and_reserve(shares, claim_uid=record.uid, cards=cards, as_before=as_before)
        try:
            with storage_errors(self._path(record.uid)):
                self._changes.announce(record.uid)
                staged.publish()
        except BaseException:
            self._reread(record.uid)
            raise
        self._remember(record)

    def _was_allocated(self, record: ClaimRecord) -> bool:
        """Whether the damaged record still shows that it was made of the same allocation."""
        for path in (self._path(record.uid), *self._aside(record.uid)[-1:]):
            # No damage makes one fingerprint of another.
            with contextlib.suppress(OSError):
                if record.allocation.encode() in path.read_bytes():
                    return True
        return False

    def release(self, uid: str, *, only: ClaimRecord | None = None) -> None:
        """Gives back what a claim holds, durably; no error if that is nothing.

        Args:
            uid: UID of the claim.
            only: What was undone of it; what is there by now stays if it is another record.

        Raises:
            StateError: The lock is not to be had.
            NodeStorageError: The record cannot be removed.
        """
        with self._exclusive():
            doubt = self._doubts.get(uid)
            if uid not in self._records and doubt is None:
                return
            if only is not None and self._records.get(uid, only) != only:
                return
            with storage_errors(self._path(uid)):
                self._changes.announce(uid)
                for path in {self._path(uid), *self._aside(uid)}:
                    _remove(path)
            self._answers.forget(uid)
            self._forget(uid)
        with storage_errors(self._path(uid)):
            sync_folder(self._claims)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._lock.held():
            self._catch_up()
            yield

    def _catch_up(self) -> None:
        with storage_errors(self._lock.path):
            seen = self._changes.seen()
            self._lost -= seen.uids
            if seen.everything:
                self._read_all(announced=seen.uids)
                return
            for uid in seen.uids:
                if CLAIM_UID.fullmatch(uid):
                    self._reread(uid)

    def _read_all(self, *, announced: frozenset[str]) -> None:
        make_folder(self._claims, mode=0o700)
        self._note_losses(announced=announced)
        self._strangers.clear()
        uids: set[str] = set(self._records) | set(self._doubts)
        for name in [path.name for path in self._claims.iterdir()]:
            uid = name.partition(_ASIDE)[0] if _ASIDE in name else name.removesuffix(_SUFFIX)
            if CLAIM_UID.fullmatch(uid) and uid != name:
                uids.add(uid)
            elif not name.endswith(TEMPORARY):
                self._strangers[name] = f"{name} in the state folder is no record of a claim."
        for uid in sorted(uids):
            self._reread(uid)

    def _note_losses(self, *, announced: frozenset[str] = frozenset()) -> None:
        unannounced = self._records.keys() - announced
        for uid in [uid for uid in unannounced if not os.path.lexists(self._path(uid))]:
            # Nobody announced that: the claim was not released, and its containers may run.
            devices = frozenset(item.share.device for item in self._records[uid].shares)
            self._doubt(uid, problem=f"The record of claim {uid} is gone.", devices=devices)
            self._lost.add(uid)

    def _reread(self, uid: str) -> None:
        self._answers.changed(uid)
        path = self._path(uid)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if self._aside(uid):
                self._doubt(uid, problem=f"The record of claim {uid} was damaged.")
            elif uid not in self._lost:
                self._forget(uid)
            return
        except OSError as unreadable:
            # One bad block must not stop the whole node. The file stays: a disk may come to itself.
            if path.is_dir():
                self._set_aside(path)
            self._doubt(uid, problem=f"The record of claim {uid} cannot be read: {unreadable.strerror}.")
            return
        try:
            self._remember(decode(content, uid=uid))
        except StateNewerError as newer:
            self._doubt(uid, problem=str(newer), newer=True, devices=devices_named(content, uid=uid))
        except StateDamagedError as damaged:
            self._set_aside(path)
            self._doubt(uid, problem=str(damaged))

    def _remember(self, record: ClaimRecord) -> ClaimRecord:
        self._doubts.pop(record.uid, None)
        self._lost.discard(record.uid)
        self._ledger.load([item.share for item in record.shares], claim_uid=record.uid)
        self._records[record.uid] = record
        return record

    def _forget(self, uid: str) -> None:
        self._ledger.release(uid)
        self._lost.discard(uid)
        self._records.pop(uid, None)
        self._doubts.pop(uid, None)

    def _doubt(
        self, uid: str, *, problem: str, newer: bool = False, devices: frozenset[str] | None = None
    ) -> None:
        self._forget(uid)
        self._ledger.hold_in_doubt(uid, devices=devices)
        held = ", ".join(sorted(devices)) if devices else "any card"
        sentence = f"{problem} Nothing more of {held} is given out until it is known what the claim holds."
        self._doubts[uid] = Doubt(uid=uid, problem=sentence, newer=newer)

    def _set_aside(self, path: Path) -> None:
        uid = path.name.removesuffix(_SUFFIX)
        self._changes.announce(uid)
        path.rename(path.with_name(f"{uid}{_ASIDE}{len(self._aside(uid)) + 1}"))

    def _path(self, uid: str) -> Path:
        return self._claims / f"{uid}{_SUFFIX}"

    def _aside(self, uid: str) -> list[Path]:
        # Asked for by name, one after the other: a look through the folder would cost more with each claim.
        named = (self._claims / f"{uid}{_ASIDE}{number}" for number in itertools.count(1))
        return list(itertools.takewhile(Path.exists, named))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except IsADirectoryError:
        shutil.rmtree(path)
