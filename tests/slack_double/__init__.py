"""A stateful double of Slack for end-to-end tests. It knows nothing of the app it serves."""

from .delivery import Ack, Attempt, Parcel
from .double import BOT_SCOPES, SUBSCRIPTIONS, SlackDouble
from .methods import Call, Fault
from .workspace import SlackError

__all__ = [
    "BOT_SCOPES",
    "SUBSCRIPTIONS",
    "Ack",
    "Attempt",
    "Call",
    "Fault",
    "Parcel",
    "SlackDouble",
    "SlackError",
]
