"""The method `hardware`: a share that is a partition of its card, kept apart by the card itself.

Flow: *edits* uses the instance that is there, or makes it and notes so; *undo* removes what was noted. A note
(`Note`, durable, one for each claim and partition) is written before anything is made, and goes after it is
gone:

    note "intended" -> instance made -> note "made" with its UUID -> CDI file ... -> note "being removed" ->
    instance gone -> note gone

So a kill at any point leaves a note that leads to what there is, and what has no note is never removed: it is
somebody else's. With "intended", an instance in exactly these slots is ours, since none was there when the
note was written; with "made", only one of that UUID is; with "being removed", also what is left of it when
its inner half, and the UUID with it, is gone. Where instances do not outlive a boot, a note of another one
stands for nothing: what is there by now, somebody else made.

A vendor may give an instance the number, and so the device nodes, that one had which was lost (by a reset of
the card, by an administrator). So before anything is made or given out on a card, *withdraw* is told of the
claims whose instance is lost, while the card is locked; and *stands* tells whether edits of before still lead
to the instance.

Two agents may run on a node at a time (a rolling update), hence a lock for each card, over processes. It is
held while the hardware is at work, for seconds, and nothing else waits for it: neither claims of other cards
nor the reservations.

Where all partitions of a card come and go with the card's mode (AMD's), there is nothing to note: none of
them is anybody's, a claim's first one sets the mode, and it stays until somebody needs another. The guard has
seen to it that no partition of another mode is held, nor the card as a whole.

A card that is partitioned on demand is taken out of the partitioning mode when a share of it, or all of it,
is prepared (`prepare_card`): the guard has seen to it that no partition of it is held.

Limits: an administrator who makes an instance in the very slots that a killed agent had noted, before it
comes back, loses it to the claim; so does one who, after a kill in the middle of a removal, makes one by half
under the same number. Our instance whose inner half an administrator removed is his from then on. A card that
is lost takes its instances with it: their notes go without a question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from driver.cards import Card, IsolationLevel
from driver.cdi import ContainerEdits
from driver.errors import DeviceGoneError, DragomanError, IsolationError
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.partition_notes import Note, Notes
from driver.partitions.base import Instance, PartitionBusyError, Partitioner, PartitionTarget
from driver.places import Place, place_of
from driver.shares import Share

REMEMBERED_S = 90.0
"""For so long one of our instances is not taken for somebody else's after it was removed."""

LOOKED_AT_S = 30.0
"""For so long one that was seen is taken to be there, where its number can be nobody else's."""


class PartitionUnusableError(IsolationError):
    """There is an instance where the claim's partition is to be, and it cannot be used."""

    reason = "PartitionUnusable"


class PartitionGoneError(IsolationError):
    """The partition was there and is not any more, and is not one that is made on demand."""

    reason = "PartitionGone"


class PartitionsUnknownError(IsolationError):
    """Nobody on this node knows how to partition the card at the moment."""

    reason = "PartitionsUnknown"
    retriable = True


class Hardware:
    """Partitions; implements `driver.isolation.base.IsolationMethod`.

    Args:
        partitioner: Gives who partitions the card of this name, by the card's vendor's name as well; None
            where nobody does.
        notes: Keeps the notes.
        withdraw: Takes from a claim, by UID, what its containers are started with.
        clock: Tells seconds.
    """

    level = IsolationLevel.HARDWARE

    def __init__(
        self,
        partitioner: Callable[[str, str], Partitioner | None],
        *,
        notes: Notes,
        withdraw: Callable[[str], None] = lambda _uid: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._partitioner = partitioner
        self._notes = notes
        self._withdraw = withdraw
        self._clock = clock
        self._removed: dict[str, float] = {}
        self._removed_lock = threading.Lock()
        self._seen: dict[str, float] = {}

    def ours(self) -> frozenset[str]:
        """Names of the partitions that were made, or are to be made, for claims.

        Also those that were removed a moment ago: who asks may have seen the instance before that.
        """
        since = self._clock() - REMEMBERED_S
        # Read first: a note that goes meanwhile is remembered by then.
        noted = self._notes.devices()
        with self._removed_lock:
            self._removed = {device: at for device, at in self._removed.items() if at > since}
            return noted | frozenset(self._removed)

    def available(self, *, card: Card, host: Host) -> Availability:  # noqa: ARG002 - the verb's signature
        """Partitions are held by hardware, and shares of a card never are."""
        there = card.partition is not None
        return Availability(memory=there, cores=there)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """The device nodes of the instance, which is made if it is not there.

        Raises:
            DragomanError: It cannot be made, or not now.
        """
        card = context.card
        if card.partition is None:
            raise PartitionUnusableError(f"{card.name} is no partition.")
        target = PartitionTarget(place=_place(card.name), card_uuid=card.partition.card_uuid)
        partitioner = self._of(target.place.card, vendor=card.vendor)
        with self._notes.lock(target.place.card):
            self._withdraw_lost(share, target, partitioner=partitioner, host=host)
            instance = self._instance(share, card, target, partitioner=partitioner, host=host)
            self._seen[card.name] = self._clock()
            return partitioner.instance_edits(instance, host=host)

    def stands(self, card: Card, edits: ContainerEdits, *, host: Host) -> bool:
        """Whether these edits of before still lead to the partition's instance; changes nothing.

        Raises:
            DragomanError: Nobody can say.
        """
        if card.partition is None:
            return True
        target = PartitionTarget(place=_place(card.name), card_uuid=card.partition.card_uuid)
        partitioner = self._of(target.place.card, vendor=card.vendor)
        if not partitioner.numbers_used_again:
            return self._is_there(card.name, target, partitioner=partitioner, host=host)
        found = partitioner.find_instance(target, host=host)
        return found is not None and found.complete and partitioner.instance_edits(found, host=host) == edits

    def _is_there(
        self, device: str, target: PartitionTarget, *, partitioner: Partitioner, host: Host
    ) -> bool:
        """Whether an instance is still there that cannot be taken for another; asked for now and then."""
        now = self._clock()
        if self._seen.get(device, -LOOKED_AT_S) > now - LOOKED_AT_S:
            return True
        if partitioner.find_instance(target, host=host) is None:
            return False
        self._seen[device] = now
        return True

    def prepare_card(self, card: Card, *, host: Host) -> None:
        """Sees to it that a card that is partitioned on demand can be used as a whole, or shared.

        Raises:
            DragomanError: It has instances, or the mode cannot be changed now.
        """
        partitioner = self._of(card.name, vendor=card.vendor)
        with self._notes.lock(card.name):
            partitioner.make_whole(card.uuid, host=host)

    def in_force(
        self,
        share: Share,  # noqa: ARG002 - the verb's signature
        *,
        context: ShareContext,
        host: Host,
        pid: int,
    ) -> InForce:
        """Whether the instance is there, and what opens it is what the process' container was given."""
        card = context.card
        try:
            partitioner = self._partitioner(card.name, card.vendor)
        except PartitionsUnknownError as unknown:
            return _unknown(str(unknown))
        if card.partition is None or partitioner is None:
            return _unknown("Nobody can ask for the instance.")
        target = PartitionTarget(place=_place(card.name), card_uuid=card.partition.card_uuid)
        try:
            found = partitioner.find_instance(target, host=host)
        except DeviceGoneError as gone:
            return InForce(holds=False, message=str(gone), reason=gone.reason)
        except Exception as unknown:  # noqa: BLE001 - the verb raises nothing
            return _unknown(f"The instance cannot be asked for: {unknown}")
        if found is None or not found.complete:
            return InForce(
                holds=False,
                message=f"The instance {card.name} is not there any more.",
                reason=PartitionGoneError.reason,
                remedy="Delete the pod; somebody removed the instance by hand.",
            )
        try:
            return self._opened(found, partitioner, host=host, pid=pid)
        except Exception as unknown:  # noqa: BLE001 - the verb raises nothing
            return _unknown(f"The instance's device nodes cannot be asked for: {unknown}")

    @staticmethod
    def _opened(found: Instance, partitioner: Partitioner, *, host: Host, pid: int) -> InForce:
        """Whether the process' container has what opens the instance, where that can be another's later."""
        if partitioner.numbers_used_again:
            nodes = [node.path for node in partitioner.instance_edits(found, host=host).device_nodes]
            root = f"/proc/{pid}/root"
            if not host.exists(f"{root}/dev"):
                return _unknown("The container's device nodes cannot be seen.")
            if not all(host.exists(f"{root}{node}") for node in nodes):
                return InForce(
                    holds=False,
                    message=f"{found.target.place.name} was lost and made anew since the container was "
                    "started, which can open what has its former number.",
                    reason="PartitionMadeAnew",
                    remedy="Delete the pod.",
                )
        return InForce(holds=True, message=f"The card keeps the instance {found.uuid} apart.")

    def undo(self, share: Share, *, context: ShareContext | None, host: Host) -> None:  # noqa: ARG002
        """Removes the instance if it was made for the share.

        Raises:
            DragomanError: It cannot be removed now; its note stays.
        """
        note = self._notes.find(share.claim_uid, share.device)
        if note is not None:
            self._undo(note, host=host)

    def claims(self, *, host: Host) -> frozenset[str]:  # noqa: ARG002
        """UIDs of the claims that have notes."""
        return self._notes.claims()

    def undo_claim(self, claim_uid: str, *, host: Host) -> None:
        """Removes all instances that were made for a claim."""
        for note in self._notes.of_claim(claim_uid):
            self._undo(note, host=host)

    def _instance(
        self, share: Share, card: Card, target: PartitionTarget, *, partitioner: Partitioner, host: Host
    ) -> Instance:
        found = partitioner.find_instance(target, host=host)
        if target.place.of_mode:
            if found is None and not card.counters:
                raise _gone(card.name)
            return _usable(found or partitioner.make_instance(target, host=host))
        note = self._notes.find(share.claim_uid, share.device)
        if note is not None and found is not None and not self._is_of(found, note, partitioner):
            # Of another boot, or made anew by somebody else in the place of ours: theirs from now on.
            self._notes.remove(note)
            note = None
        if note is None:
            self._refuse_if_anothers(share, target, partitioner)
        if found is not None and note is None:
            return _usable(found)
        if note is None and not card.counters:
            raise _gone(card.name)
        boot = self._notes.boot()
        if note is None or self._is_old(note, partitioner) or (found is None and note.instance):
            note = Note(
                claim_uid=share.claim_uid,
                device=card.name,
                vendor=card.vendor,
                card_uuid=target.card_uuid,
                boot=boot,
            )
            self._notes.put(note)
        if found is None or not found.complete:
            found = partitioner.make_instance(target, host=host)
        if note.instance != found.uuid or note.removing:
            self._notes.put(replace(note, instance=found.uuid, removing=""))
        return found

    def _refuse_if_anothers(self, share: Share, target: PartitionTarget, partitioner: Partitioner) -> None:
        """Refuses while another claim's note leads to the place: what is there goes when that claim does."""
        for uid, device in self._notes.holders(target.place.card):
            if device != target.place.name or uid == share.claim_uid:
                continue
            note = self._notes.find(uid, device)
            if note is not None and not self._is_old(note, partitioner):
                raise PartitionBusyError(
                    f"{device} was made for claim {uid}, of which something is left.",
                    remedy="The kubelet tries again until the agent has removed it.",
                )

    def _withdraw_lost(
        self, share: Share, target: PartitionTarget, *, partitioner: Partitioner, host: Host
    ) -> None:
        """Sees to it that no claim whose instance is lost opens what gets its number."""
        if not partitioner.numbers_used_again:
            return
        for uid, device in self._notes.holders(target.place.card):
            if (uid, device) == (share.claim_uid, target.place.name):
                continue
            other = PartitionTarget(place=_place(device), card_uuid=target.card_uuid)
            found = partitioner.find_instance(other, host=host)
            if found is None or not found.complete or self._noted_uuid(uid, device) not in ("", found.uuid):
                self._withdraw(uid)

    def _noted_uuid(self, uid: str, device: str) -> str:
        try:
            note = self._notes.find(uid, device)
        except DragomanError:
            return ""
        return note.instance if note is not None else ""

    def _undo(self, seen: Note, *, host: Host) -> None:
        place = _place(seen.device)
        with self._notes.lock(place.card):
            # As it is now: another agent may have been at work on it.
            note = self._notes.find(seen.claim_uid, seen.device)
            if note is None:
                return
            if self._partitioner(place.card, note.vendor) is None and note.boot != self._notes.boot():
                # The vendor's hardware was taken out before this boot.
                self._notes.remove(note)
                return
            partitioner = self._of(place.card, vendor=note.vendor)
            if not self._is_old(note, partitioner):
                target = PartitionTarget(place=place, card_uuid=note.card_uuid)
                try:
                    found = partitioner.find_instance(target, host=host)
                    if found is not None and self._is_of(found, note, partitioner):
                        self._begin_removal(note, found)
                        partitioner.remove_instance(found, host=host)
                except DeviceGoneError:
                    # It can come back only by a reset or a boot, which leave no instance.
                    found = None
            with self._removed_lock:
                self._removed[note.device] = self._clock()
            self._seen.pop(note.device, None)
            self._notes.remove(note)

    def _is_old(self, note: Note, partitioner: Partitioner) -> bool:
        """Whether the note's instance went with another boot."""
        return note.boot != self._notes.boot() and not partitioner.instances_outlive_boot

    def _is_of(self, found: Instance, note: Note, partitioner: Partitioner) -> bool:
        if self._is_old(note, partitioner):
            return False
        if not note.instance or found.uuid == note.instance:
            return True
        bare = not found.uuid and not found.complete and not found.complaint
        return bare and note.removing == str(found.number)

    def _begin_removal(self, note: Note, found: Instance) -> None:
        if note.instance and not note.removing:
            # On a full disk it is removed all the same: only a kill at this very moment needs the note.
            with suppress(DragomanError):
                self._notes.put(replace(note, removing=str(found.number)))

    def _of(self, card: str, *, vendor: str) -> Partitioner:
        found = self._partitioner(card, vendor)
        if found is None:
            raise PartitionsUnknownError(
                f"Nobody on this node can partition card {card} at the moment.",
                remedy="Look whether the vendor's driver is loaded; the kubelet tries again.",
            )
        return found


def _unknown(message: str) -> InForce:
    return InForce(holds=False, known=False, message=message, reason=PartitionsUnknownError.reason)


def _gone(device: str) -> PartitionGoneError:
    return PartitionGoneError(
        f"The partition {device} is not there any more.",
        remedy="Delete the pod; its replacement is scheduled to one that is there.",
    )


def _place(device: str) -> Place:
    place = place_of(device)
    if place is None:
        raise PartitionUnusableError(f"{device} does not tell where the partition is.")
    return place


def _usable(found: Instance) -> Instance:
    if not found.complete:
        raise PartitionUnusableError(
            f"The instance {found.target.place.name} cannot be used: "
            f"{found.complaint or 'it has no compute instance.'}",
            remedy="An administrator makes one compute instance that spans it, or removes the instance.",
        )
    return found
