"""Where a list in pages goes on. Nothing in it is secret, nor trusted: the policies decide on every page."""

import base64
import json
from dataclasses import asdict, dataclass

from .errors import invalid

COLUMNS = ("name", "updated_at", "created_at")
ORDERS = ("asc", "desc")


@dataclass(frozen=True)
class Cursor:
    """How a list is sorted, and the entry that it goes on behind: by the column it stands at `place`."""

    column: str
    order: str
    name: str | None = None  # none: from the beginning
    place: str | None = None

    def encode(self) -> str:
        """As clients send it back."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """The cursor of a text that encode() gave."""
        try:
            found = cls(**json.loads(base64.urlsafe_b64decode(text)))
        except (ValueError, TypeError, RecursionError):
            found = cls("", "")
        if (
            found.column not in COLUMNS
            or found.order not in ORDERS
            or not isinstance(found.name, str)
            or not isinstance(found.place, str)
        ):
            raise invalid("Invalid Parameter continuation token", "InvalidParameter")
        return found
