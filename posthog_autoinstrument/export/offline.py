"""Delivery of what is on disk, for a command or a page: on the caller's thread, without a queue or patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import providers
from ..core.config import Config
from ..processing.pipeline import Maker
from . import destination
from .delivery import Courier

if TYPE_CHECKING:
    from .flusher import Orphaned


def make_delivery(settings: Config) -> Courier:
    """Delivery to the project of `settings`. One that refuses the token ends it: somebody waits for the end."""
    delivery = Courier(lambda: destination.choose(settings), destination.shrink)
    delivery.waits_out_refusals = False
    return delivery


def make_pipeline(settings: Config, delivery: Courier) -> Maker:
    """What makes events of the records of a spool. It counts events that it loses in `delivery`."""
    found = {provider.name: provider for provider in providers.load_providers()}
    return Maker(settings, found, delivery.lose, delivery.take_untold, lambda rows: None)


def deliver_next(delivery: Courier, source: Orphaned, limit: int) -> bool:
    """Deliver the next `limit` events of `source`; False when it has none left."""
    events = source.next(limit)
    if events is None:
        return False
    if events:
        delivery.deliver(list(events), source)
    return True
