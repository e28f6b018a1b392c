"""Delivery of what is on disk, for a command or a page: on the caller's thread, without a queue or patches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import providers
from ..processing import truncation
from ..processing.pipeline import Pipeline
from ..settings.config import Config
from . import destination
from .delivery import Delivery

if TYPE_CHECKING:
    from .batches import BatchSource


def make_delivery(settings: Config) -> Delivery:
    """Delivery to the project of `settings`. A refusal ends it, since a user waits for the end."""
    delivery = Delivery(lambda: destination.choose(settings), truncation.truncate_encoded)
    delivery.waits_out_refusals = False
    return delivery


def make_pipeline(settings: Config, delivery: Delivery) -> Pipeline:
    """What makes events of the records of a spool. It counts events that it loses in `delivery`."""
    found = {provider.name: provider for provider in providers.load_providers()}
    return Pipeline(settings, found, delivery.count_lost, delivery.take_unreported, lambda rows: None)


def deliver_next(delivery: Delivery, source: BatchSource, limit: int) -> bool:
    """Deliver the next `limit` events of `source`; False when it has none left."""
    events = source.next(limit)
    if events is None:
        return False
    if events:
        delivery.deliver(list(events), source)
    return True
