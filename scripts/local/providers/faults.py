"""What goes wrong on demand."""

from dataclasses import dataclass
from typing import Any

from .png import bomb

PROVIDERS = ("openai", "gemini", "stability", "runway")
STAGES = ("create", "poll", "cancel", "fetch")

# The options of each kind, with their defaults.
KINDS: dict[str, dict[str, Any]] = {
    "slow": {"ms": 1000},
    "rate_limit": {"retry_after": 1},
    "error": {"status": 500, "accepted": False},
    "turned_down": {"why": "quota"},
    "drop": {"accepted": False},
    "empty": {"bare": False},
    "wrong_type": {"what": "html"},
    "oversize": {"what": "bytes", "mb": 32},
    "refusal": {"stage": "input", "code": None},
    "partial": {"k": 1},
    "task_failed": {"code": "INTERNAL.BAD_OUTPUT.CODE01"},
    "redirect": {"location": None},
    "other_host": {"host": "localhost", "url": None},
}
AT_THE_DOOR = (
    "rate_limit",
    "error",
    "turned_down",
    "drop",
)  # before the request is looked at, unless `accepted`
ANYWHERE = ("rate_limit", "error", "drop", "slow")  # at stages other than create, too
RUNWAY_ONLY = ("task_failed", "redirect", "other_host")
CHOICES = {"wrong_type": ("html", "truncated", "not_media"), "oversize": ("bytes", "pixels")}
HTML = b"<!doctype html><html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


class FaultError(ValueError):
    """A fault that cannot be. The message is a sentence."""


@dataclass
class Fault:
    """One fault. `times` None: until cleared. `match`: only calls whose prompt contains it."""

    provider: str
    kind: str
    times: int | None
    on: str
    match: str | None
    options: dict[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]

    @property
    def at_the_door(self) -> bool:
        """Whether it strikes before the provider accepts the call."""
        return self.kind in AT_THE_DOOR and not self.options.get("accepted")

    @property
    def whole_answer(self) -> bytes | None:
        """The body that replaces the provider's answer, if that is what it does."""
        if self.kind == "empty" and self["bare"]:
            return b""
        if self.kind == "wrong_type" and self["what"] == "html":
            return HTML
        return None

    def spoil(self, media: bytes) -> bytes:
        """A file as this fault leaves it."""
        match self.kind, self.options.get("what"):
            case "wrong_type", "truncated":
                return media[: len(media) // 2]
            case "wrong_type", "not_media":
                return HTML
            case "oversize", "bytes":
                return media + bytes(self["mb"] * 1024 * 1024)
            case "oversize", "pixels":
                return bomb()
        return media


def make(
    provider: str, kind: str, times: int | None, on: str, match: str | None, options: dict[str, Any]
) -> Fault:
    """A fault, checked. Raises FaultError."""
    known = {"provider": (provider, PROVIDERS), "kind": (kind, tuple(KINDS)), "on": (on, STAGES)}
    for name, (value, allowed) in known.items():
        if value not in allowed:
            raise FaultError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
    if times is not None and (type(times) is not int or times < 1):
        raise FaultError("times must be a whole number from 1 on, or null for always.")
    unknown = set(options) - set(KINDS[kind])
    if unknown:
        allowed = tuple(KINDS[kind])
        raise FaultError(f"{kind} has no option {', '.join(sorted(unknown))}; it has {', '.join(allowed)}.")
    full = {**KINDS[kind], **options}
    if kind in CHOICES and full["what"] not in CHOICES[kind]:
        raise FaultError(f"what must be one of {', '.join(CHOICES[kind])}.")
    if kind == "turned_down" and full["why"] not in ("quota", "key", "model"):
        raise FaultError("why must be quota, key or model.")
    if kind == "refusal" and full["stage"] not in ("input", "output"):
        raise FaultError("stage must be input or output.")
    if kind == "error" and not 500 <= full["status"] <= 599:
        raise FaultError("status must be from 500 to 599.")
    if on != "create":
        if kind not in ANYWHERE:
            raise FaultError(f"{kind} happens on create only; on {on} there can be {', '.join(ANYWHERE)}.")
        if provider != "runway":
            raise FaultError(f"{provider} has no {on}; only runway has.")
    if (kind in RUNWAY_ONLY and provider != "runway") or (kind == "partial" and provider != "openai"):
        raise FaultError(f"{provider} has no {kind}.")
    if provider == "runway" and kind == "oversize" and full["what"] == "pixels":
        raise FaultError("runway makes videos; oversize pixels is for images.")
    return Fault(provider, kind, times, on, match, full)


class Faults:
    """The faults that wait, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queue it."""
        self._waiting.append(fault)

    def clear(self, provider: str | None = None) -> None:
        """Drop those of one provider, or all."""
        self._waiting = [fault for fault in self._waiting if provider not in (None, fault.provider)]

    def _take(self, fault: Fault) -> Fault:
        if fault.times is not None:
            fault.times -= 1
            if not fault.times:
                self._waiting.remove(fault)
        return fault

    def at_the_door(self, provider: str, on: str) -> Fault | None:
        """The fault of a call of which nothing is read yet, if the oldest one for it is such a fault."""
        oldest = next((f for f in self._of(provider, on) if f.kind != "slow"), None)
        if oldest and oldest.at_the_door and oldest.match is None:
            return self._take(oldest)
        return None

    def delay(self, provider: str, on: str, prompt: str) -> float:
        """Seconds by which the answer is late."""
        fits = [f for f in self._of(provider, on) if f.kind == "slow" and (f.match or "") in prompt]
        return float(self._take(fits[0])["ms"]) / 1000 if fits else 0.0

    def take(self, provider: str, on: str, prompt: str) -> Fault | None:
        """The fault of a call that has been read."""
        for fault in self._of(provider, on):
            if fault.kind != "slow" and (fault.match or "") in prompt:
                return self._take(fault)
        return None

    def _of(self, provider: str, on: str) -> list[Fault]:
        return [fault for fault in self._waiting if (fault.provider, fault.on) == (provider, on)]
