"""What supabase/config.toml says of Auth, with the Supabase CLI's defaults."""

import re
import tomllib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .inputs import duration

LOCALHOST = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Config:
    """The settings that count here. Times are in seconds."""

    site_url: str = "http://127.0.0.1:3000"
    redirect_urls: tuple[str, ...] = ()
    signup: bool = True
    anonymous: bool = False
    confirmations: bool = False
    double_confirm_changes: bool = True
    otp_length: int = 6
    otp_seconds: int = 3600
    mail_seconds: float = 1.0  # between two messages of a kind to the same user
    anonymous_an_hour: int = 30  # from one address, as the next
    verifications: int = 30  # that fail, in five minutes

    def may_redirect_to(self, url: str) -> bool:
        """Whether a link may lead there: to the site, to this machine, or to what config.toml allows."""
        try:
            site, target = urlsplit(self.site_url), urlsplit(url)
            site_port, port = site.port, target.port
        except ValueError:
            return False
        # What browsers take for a slash, or leave out, must not make another host of it.
        if not url.isascii() or not url.isprintable() or "\\" in url or "@" in target.netloc:
            return False
        same = (site.scheme, site.hostname) == (target.scheme, target.hostname)
        if same and (site_port == port or target.hostname in LOCALHOST):
            return True
        if _is_address(target):
            return target.scheme in ("http", "https") and ip_address(target.hostname or "").is_loopback
        return any(_glob(pattern).fullmatch(url.partition("#")[0]) for pattern in self.redirect_urls)


def _is_address(target: SplitResult) -> bool:
    try:
        ip_address(target.hostname or "")
    except ValueError:
        return False
    return True


def _glob(pattern: str) -> "re.Pattern[str]":
    """`*` is anything but `.` and `/`, `**` anything, `?` one character but those."""
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    meaning = {"**": ".*", "*": "[^./]*", "?": "[^./]"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts))


def read(path: Path) -> Config:
    """The settings of a project. Raises ValueError that names the one that is wrong."""
    auth: dict[str, Any] = tomllib.loads(path.read_text()).get("auth", {}) if path.exists() else {}
    email, limits, plain = auth.get("email", {}), auth.get("rate_limit", {}), Config()
    length = int(email.get("otp_length", plain.otp_length))
    if not 6 <= length <= 10:
        raise ValueError(f"[auth.email] otp_length is {length}; it has to be from 6 to 10")
    often = duration(str(email.get("max_frequency", "1s")))
    if often is None:
        raise ValueError("[auth.email] max_frequency is no duration such as 1s or 1m")
    return Config(
        site_url=auth.get("site_url", plain.site_url),
        redirect_urls=tuple(auth.get("additional_redirect_urls", ())),
        signup=auth.get("enable_signup", True) and email.get("enable_signup", True),
        anonymous=auth.get("enable_signup", True) and auth.get("enable_anonymous_sign_ins", False),
        confirmations=email.get("enable_confirmations", False),
        double_confirm_changes=email.get("double_confirm_changes", True),
        otp_length=length,
        otp_seconds=int(email.get("otp_expiry", plain.otp_seconds)),
        mail_seconds=often.total_seconds(),
        anonymous_an_hour=int(limits.get("anonymous_users", plain.anonymous_an_hour)),
        verifications=int(limits.get("token_verifications", plain.verifications)),
    )
