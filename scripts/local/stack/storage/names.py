"""What a bucket or an object may be called, and how large and of which type an object may be."""

import re
import tomllib
from pathlib import Path

from ..errors import StackError
from .errors import StorageError, invalid, invalid_mime_type

# The characters that Supabase Storage takes; letters and digits are ASCII.
_KEY = re.compile(r"[A-Za-z0-9_/!\-.*'() &$@=;:+,?]{1,1024}")
_BUCKET = re.compile(r"[A-Za-z0-9_!\-.*'() &$@=;:+,?]{1,100}")
_MIME_TYPE = re.compile(r"[\w\-+.]+/[\w\-+.]+(;\s*charset=[\w\-]+)?|.*\*", re.ASCII)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(gb|mb|kb|b)", re.IGNORECASE)
_UNITS = {"gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1}


def require_key(name: str) -> None:
    """Refuse names of objects that S3 and URLs would not carry unchanged; "." and ".." are among them."""
    if not _KEY.fullmatch(name) or any(part in (".", "..") for part in name.split("/")):
        raise invalid(f"Invalid key: {name[:200]}", "InvalidKey")


def require_bucket(name: str) -> None:
    """Refuse names of buckets likewise, and those with a space at an end, which nobody would see."""
    if not _BUCKET.fullmatch(name) or name in (".", "..") or name != name.strip():
        raise StorageError(400, "InvalidBucketName", "Bucket name invalid", error="Invalid Input")


def size(text: str) -> int:
    """Bytes of "20GB", "20MB", "30KB" or "3B" (powers of 1000)."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise invalid("Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def require_mime_types(listed: list[str]) -> None:
    """Refuse what a bucket cannot list."""
    for entry in listed:
        if not _MIME_TYPE.fullmatch(entry) or len(entry) > 1000:
            raise invalid_mime_type(entry)


def require_mime_type(mime_type: str, allowed: list[str] | None) -> None:
    """Refuse a type that the bucket does not list letter for letter; "image/*" stands for all images.

    As hosted, "text/plain;charset=UTF-8" is not "text/plain". No list, or an empty one, allows every type.
    """
    kind, slash, _ = mime_type.partition("/")
    if allowed and not (slash and (mime_type in allowed or f"{kind}/*" in allowed)):
        raise invalid_mime_type(mime_type)


def configured_limit(config: Path) -> int:
    """Bytes that one object may have at most: [storage] file_size_limit of supabase/config.toml, or 50 MiB.

    As the Supabase CLI reads it, "50MB" and "50MiB" are the same, powers of 1024. Raises StackError.
    """
    sections = tomllib.loads(config.read_text()) if config.exists() else {}
    stated = str(sections.get("storage", {}).get("file_size_limit", "50MiB"))
    found = re.fullmatch(r"([0-9]{1,6})\s*(|[kmg])(?:i?b)?", stated.lower())
    if not found:
        raise StackError(f'[storage] file_size_limit in {config.name} is {stated!r}; write it as "50MiB".')
    return int(found[1]) << 10 * ["", "k", "m", "g"].index(found[2])
