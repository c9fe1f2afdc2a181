"""What prepare and unprepare do to the node, in an order that a kill at any point cannot harm.

Order of `commit`:   record (durable) -> isolation -> CDI file (durable) -> reply
Order of `withdraw`: CDI file gone -> isolation gone -> record gone (durable) -> reply

So whatever there is on the node besides the record, there is a record that leads to it. What is done from a
record can be done again: `ensure` makes the same files from the same record, after a kill, a wiped folder or
a reboot (when device nodes may have other numbers).

Limits: blocks; for threads only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import structlog

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.cdi.spec import serialise, spec_document
from driver.errors import DeviceGoneError, DragomanError, StateError
from driver.isolation.choose import Chosen
from kubelet_plugin.prepare.cards import CardSource
from kubelet_plugin.prepare.cdi_files import CdiFiles
from kubelet_plugin.prepare.folder_lock import StateBusyError
from kubelet_plugin.prepare.handed_out import Asked, HandedOutCards
from kubelet_plugin.prepare.phases import Phases
from kubelet_plugin.prepare.planning import Plan, decide
from kubelet_plugin.prepare.records import CLAIM_UID, ClaimRecord, ShareRecord
from kubelet_plugin.prepare.state import StateFolder

_log = structlog.get_logger(__name__)


class FormerAllocationError(StateError):
    """The claim is prepared by another allocation, which nobody has given back.

    Attributes:
        record: What is prepared.
    """

    reason = "FormerAllocation"
    retriable = True

    def __init__(self, record: ClaimRecord, why: str) -> None:
        super().__init__(
            f"Claim {record.namespace}/{record.name} is prepared on this node by another allocation. {why}",
            remedy="The kubelet tries again; if that does not help, delete the pod that waits.",
        )
        self.record = record


class Effects:
    """The node's files, as far as claims are concerned."""

    def __init__(self, *, state: StateFolder, cdi_folder: Path, source: CardSource, phases: Phases) -> None:
        self._state = state
        self._cdi = CdiFiles(cdi_folder)
        self._source = source
        self._phases = phases
        self._handed_out = HandedOutCards(source)
        self._outdated: set[str] = set()
        """UIDs of claims whose CDI file leads to what is not theirs, or not there, any more."""
        self._made_from: dict[str, ClaimRecord] = {}
        """By UID: the record that the CDI file, as this process knows it, was made from."""

    def start(self) -> None:
        """Reads the records and removes what a killed agent left half done.

        Raises:
            StateError, NodeStorageError: The state folder cannot be used.
        """
        self._state.open()
        self._cdi.clean()

    def orphans(self) -> frozenset[str]:
        """UIDs of claims of which there is something on the node and no record."""
        # In this order: a record is older than all that is made from it.
        found = self._cdi.uids() | {uid for uid in self._source.held_claims() if CLAIM_UID.fullmatch(uid)}
        self._state.refresh()
        return frozenset(uid for uid in found if not self._is_known(uid))

    def remove_orphan(self, uid: str) -> str:
        """Removes what there is of a claim that has no record.

        Returns:
            Why that is not possible, "" if it is.
        """
        try:
            self._state.refresh()
            if not self._is_known(uid):
                self._cdi.remove(uid)
                self._made_from.pop(uid, None)
                self._source.undo_claim(uid)
                _log.info("leftovers of a claim without a record removed", claim=uid)
        except (DragomanError, OSError) as refused:
            return f"What is left of claim {uid}, which has no record, cannot be removed: {refused}"
        return ""

    def commit(self, plan: Plan, *, replacing: ClaimRecord | None = None) -> ClaimRecord:
        """Prepares a planned claim; nothing of it is left if that fails, unless others rely on it by then.

        Args:
            plan: The plan.
            replacing: The record of another allocation that is undone for it, since nobody uses it any more.

        Raises:
            FormerAllocationError: There is another one. The plan may be the older of the two: while it was
                carried out the claim may have been released, allocated anew, and prepared by another agent.
            DragomanError: The guard, the isolation or the disk refuses.
        """
        self._state.refresh()
        with self._phases.time("isolation"):
            wanted = decide(plan, source=self._source, prepared=self._state.find)
        former = self._state.find(wanted.uid)
        if former is not None and former.allocation != wanted.allocation:
            if former != replacing:
                raise FormerAllocationError(former, "It is not known yet whether a pod still uses it.")
            self._undo(former)
        record, made = self._state.reserve(wanted, cards=plan.cards, as_before=self._holds_already(wanted))
        if record.allocation != wanted.allocation:
            raise StateBusyError(
                "Another agent on this node prepared another allocation of the claim.",
                remedy="The kubelet tries again.",
            )
        try:
            self.ensure(record)
        except BaseException:
            if made:
                with (
                    contextlib.suppress(DragomanError, OSError),
                    self._state.taking_back(record.uid) as alone,
                ):
                    # Unless another agent has told the kubelet, nobody was, so no container can use it.
                    if alone:
                        self._undo(record)
            raise
        return record

    def repeat(self, uid: str, *, allocation: str | None) -> ClaimRecord | None:
        """Answers from the record, with its files in place.

        Args:
            uid: UID of the claim.
            allocation: Fingerprint of the allocation now; None where nobody can say.

        Returns:
            None where there is no record, or one of another allocation.

        Raises:
            DragomanError: The files cannot be put back.
        """
        record = self._state.answer(uid, allocation=allocation)
        if record is not None:
            self.ensure(record)
        return record

    def ensure(self, record: ClaimRecord) -> bool:
        """Makes sure that the claim's CDI file and what it refers to are there.

        The device nodes of a partition that was lost may be another claim's by now, and after a reload of the
        driver so may those of a card: a file that leads to them goes, and is written anew once what it is to
        lead to is there again.

        Returns:
            Whether the file had to be written.

        Raises:
            DeviceGoneError: A card is not there any more.
            IsolationError: A limit cannot be put in force any more.
            NodeStorageError: The disk refuses.
        """
        put_back = False
        if self._cdi.intact(record.uid):
            if record.uid not in self._outdated and self._stands(record):
                return False
            self._cdi.remove(record.uid)
        else:
            self._handed_out.note_nodes(record, self._cdi.nodes(record.uid))
            # Before any driver is asked, which may hang.
            put_back = self._put_back(record)
        try:
            written = self._make(record)
        except BaseException:
            if self._may_be_anothers(record):
                self._cdi.remove(record.uid)
            raise
        self._made_from[record.uid] = record
        self._outdated.discard(record.uid)
        return written or put_back

    def _make(self, record: ClaimRecord) -> bool:
        cards = self._source.cards()
        with self._phases.time("isolation"):
            self._withdraw_lost(record)
            devices = {item.cdi_device: self._edits(item, cards=cards) for item in record.shares}
        self._withdraw_rivals(record)
        with self._phases.time("cdi"):
            return self._cdi.ensure(record.uid, serialise(spec_document(devices)))

    def _may_be_anothers(self, record: ClaimRecord) -> bool:
        """Whether the claim's file leads to another's card, or this process knows that it may do so soon."""
        if self._handed_out.rivals(record):
            return True
        # While an agent that has just started cannot reach a card, that may be the agent's own fault.
        return self._handed_out.is_known(record) and self._handed_out.is_outdated(
            record, devices=self.devices_of(record.uid), asked={}
        )

    def _withdraw_lost(self, record: ClaimRecord) -> None:
        """Sees to it that no claim whose partition is lost opens the one that is about to be made."""
        for other in self._handed_out.partitions_beside(record):
            # While nobody can say, none can be made.
            with contextlib.suppress(DragomanError):
                if not self._handed_out.still_stands(other):
                    _log.warning("CDI file removed: its partition is lost", claim=other.uid)
                    self._cdi.remove(other.uid)

    def _withdraw_rivals(self, record: ClaimRecord) -> None:
        """Sees to it that no claim of another card opens the nodes that this one is about to get."""
        asked: Asked = {}
        for rival in self._handed_out.rivals(record):
            if not self._handed_out.still_leads_there(rival, asked=asked):
                _log.warning("CDI file removed: it leads to another card by now", claim=rival.uid)
                self._cdi.remove(rival.uid)

    def withdraw(self, uid: str) -> None:
        """Unprepares a claim; no error if it is unknown.

        Raises:
            DragomanError: Something cannot be removed; the record stays and the kubelet tries again.
        """
        self._state.refresh()
        record = self._state.find(uid)
        if record is not None:
            self._undo(record)
            return
        self._cdi.remove(uid)
        self._made_from.pop(uid, None)
        # A damaged record does not say what was made; left, it would meet the claim's next allocation.
        self._source.undo_claim(uid)
        self._state.release(uid)

    def withdraw_judged(self, uid: str, *, judged: ClaimRecord | None) -> bool:
        """Unprepares a claim that was found dead, unless its record is another one by now.

        Args:
            uid: UID of the claim.
            judged: The record that was found dead; None for one that could not be read.

        Returns:
            Whether it was unprepared.

        Raises:
            DragomanError: Something cannot be removed; the record stays.
        """
        self._state.refresh()
        if self._state.find(uid) != judged:
            return False
        self._state.mark_releasing(uid)
        self.withdraw(uid)
        return True

    def changed(self) -> tuple[str, ...]:
        """UIDs of prepared claims whose CDI file is not as it was left."""
        self._state.look()
        return tuple(uid for uid in self._state.records if not self._cdi.intact(uid))

    def intact(self) -> Mapping[str, frozenset[str]]:
        """By UID of the prepared claims whose CDI file is as this process made it: names of its cards."""
        # The other agent may have unprepared some.
        self._handed_out.keep(lambda uid: self._state.find(uid) is not None)
        return {
            uid: self.devices_of(uid)
            for uid, record in self._state.records.items()
            if self._cdi.intact(uid) and self._handed_out.is_known(record)
        }

    def devices_of(self, uid: str) -> frozenset[str]:
        """Names of the cards of a prepared claim; from memory, at once."""
        record = self._state.find(uid)
        return frozenset(item.share.device for item in record.shares) if record else frozenset()

    def has_partition(self, uid: str) -> bool:
        """Whether a prepared claim has a partition; from memory, at once."""
        record = self._state.find(uid)
        return record is not None and any(map(_is_partition, record.shares))

    def find_outdated(self, uids: Iterable[str], *, devices: Collection[str]) -> list[str]:
        """Those claims whose CDI file leads to what is not theirs, or not there, any more; asks drivers.

        Args:
            uids: UIDs of prepared claims.
            devices: Names of the cards that are to be asked for.
        """
        asked: Asked = {}
        found = []
        for uid in uids:
            record = self._state.find(uid)
            try:
                if record is not None and self._is_outdated(record, devices=devices, asked=asked):
                    self._outdated.add(uid)
                    found.append(uid)
            except Exception:  # noqa: BLE001 - a fault of ours in one claim must not take the others
                _log.exception("nobody knows whether a CDI file is outdated", claim=uid)
        return found

    def _is_outdated(self, record: ClaimRecord, *, devices: Collection[str], asked: Asked) -> bool:
        if self._handed_out.is_outdated(record, devices=devices, asked=asked):
            return True
        try:
            return not self._stands(record, devices=devices)
        except DragomanError:
            # No partition is torn down because its driver does not answer for a while.
            return False

    def put_back(self, uid: str) -> str:
        """Writes the CDI file of a prepared claim as it was left, if that can be known without its driver.

        Returns:
            Why that is not possible, "" if it is, or if `restore` has to do it.
        """
        record = self._state.find(uid)
        if record is None:
            return ""
        try:
            if self._put_back(record):
                _log.info("CDI file put back", claim=uid)
                self._state.refresh()
                if not self._is_known(uid):
                    # The other agent has unprepared it meanwhile.
                    self._cdi.remove(uid)
        except (DragomanError, OSError) as refused:
            return f"The CDI file of claim {record.namespace}/{record.name} cannot be put back: {refused}"
        return ""

    def restore(self, uid: str) -> str:
        """Puts back the CDI file of a prepared claim.

        Returns:
            Why that is not possible, "" if it is.
        """
        record = self._state.find(uid)
        if record is None:
            return ""
        try:
            written = self.ensure(record)
            if written:
                _log.info("CDI file put back", claim=uid)
                # The other agent may have unprepared it meanwhile.
                return self.remove_orphan(uid)
        except (DragomanError, OSError) as refused:
            _log.warning("claim not restored", claim=uid, error=str(refused))
            return f"Claim {record.namespace}/{record.name} cannot be restored: {refused}"
        return ""

    def _put_back(self, record: ClaimRecord) -> bool:
        # What a partition's file leads to may be another claim's by now.
        if self._made_from.get(record.uid) != record or any(map(_is_partition, record.shares)):
            return False
        # After a reload of the driver another card may have its device nodes.
        if record.uid in self._outdated or not self._handed_out.same_driver(record):
            return False
        return self._cdi.put_back(record.uid)

    def _holds_already(self, wanted: ClaimRecord) -> bool:
        """Whether the CDI file of a claim in doubt shows that it was prepared from the same allocation."""
        if not any(doubt.uid == wanted.uid for doubt in self._state.doubts):
            return False
        # A share's ID belongs to one allocation alone.
        return all(item.share.share_id for item in wanted.shares) and self._cdi.devices(wanted.uid) == {
            item.cdi_device for item in wanted.shares
        }

    def _is_known(self, uid: str) -> bool:
        return self._state.find(uid) is not None or any(doubt.uid == uid for doubt in self._state.doubts)

    def _undo(self, record: ClaimRecord) -> None:
        self._cdi.remove(record.uid)
        self._made_from.pop(record.uid, None)
        self._outdated.discard(record.uid)
        self._handed_out.forget(record)
        with self._phases.time("isolation"):
            for item in record.shares:
                if not item.share.admin:
                    self._source.undo(item.share, chosen=_chosen(item))
        with self._phases.time("state"):
            # While a driver hung, another agent may have done the same and prepared the claim anew.
            self._state.release(record.uid, only=record)

    def _edits(self, item: ShareRecord, *, cards: Mapping[str, Card]) -> ContainerEdits:
        card = cards.get(item.share.device)
        if card is None:
            raise DeviceGoneError(f"Card {item.share.device} is not on this node (any more).")
        if item.share.admin:
            reach, limits = self._source.vendor_edits(card), ContainerEdits()
            given = ContainerEdits(device_nodes=reach.device_nodes)
        else:
            # First what changes the card: a partition that is made may give it other device nodes.
            limits = self._source.isolation_edits(
                item.share,
                card=card,
                chosen=_chosen(item),
                index=item.index,
                core_policy=item.core_policy,
                priority=item.priority,
            )
            reach = self._source.vendor_edits(card)
            given = reach + limits
        self._handed_out.note(
            item.cdi_device, uid=item.share.claim_uid, card=card, reach=reach, limits=limits
        )
        return given

    def _stands(self, record: ClaimRecord, *, devices: Collection[str] | None = None) -> bool:
        """Whether the claim's partitions, or those of these, are still where its CDI file leads to.

        Raises:
            DragomanError: Nobody can say.
        """
        partitions = [item for item in record.shares if _is_partition(item)]
        cards = self._source.cards() if partitions else {}
        for item in partitions:
            if devices is not None and item.share.device not in devices:
                continue
            card, given = cards.get(item.share.device), self._handed_out.limits(item.cdi_device)
            if card is None:
                raise DeviceGoneError(f"Card {item.share.device} is not on this node (any more).")
            if given is None or not self._source.stands(card, given):
                return False
        return True


def _chosen(item: ShareRecord) -> Chosen:
    return Chosen(memory=item.memory_level, cores=item.cores_level)


def _is_partition(item: ShareRecord) -> bool:
    return item.memory_level is IsolationLevel.HARDWARE and not item.share.admin
