"""AI providers, one file each. A row of pricing_tiers names the file: provider `google` is google.py here.
The first rows come from supabase/seed.sql.
"""

import importlib
import re

from .protocol import NotSetUpError, Provider


def provider(name: str) -> Provider:
    """The adapter in NAME.py. NotSetUpError when the price names one that is not there."""
    try:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "protocol":
            raise ModuleNotFoundError
        found = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise NotSetUpError(
            f"There is no adapter for the provider {name!r}; correct pricing_tiers.provider."
        ) from None
    adapter: Provider = found.PROVIDER
    return adapter
