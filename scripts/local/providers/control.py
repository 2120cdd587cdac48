"""What a test can do to these providers and not to the real ones: let calls fail, and read what was billed.

with Control("http://127.0.0.1:12112") as control:
    control.fault("openai", "rate_limit", times=2, retry_after=1)
    ...
    assert control.paid("openai") == 1
"""

import time
from typing import Any, Self

import httpx

from .calls import Call
from .faults import FaultError


class Control:
    """The controls of the providers at `base`, which is PROVIDERS_URL. Errors are FaultError."""

    def __init__(self, base: str) -> None:
        self._client = httpx.Client(base_url=base, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _do(self, verb: str, **arguments: Any) -> Any:
        answer = self._client.post(f"/_control/{verb}", json=arguments)
        body = answer.json()
        if answer.is_error:
            raise FaultError(body["error"])
        return body["result"]

    def fault(
        self,
        provider: str,
        kind: str,
        times: int | None = 1,
        *,
        on: str = "create",
        match: str | None = None,
        **options: Any,
    ) -> None:
        """Let the next `times` calls fail; None: all until clear(). Faults queue, oldest first.

        provider: openai, gemini, stability or runway. `on`: create, or runway's poll, cancel and fetch
        (GET of an output's URL), which know slow, rate_limit, error and drop. `match`: only calls whose
        prompt contains it.
        kind, with its options and their defaults:
            slow(ms=1000)                          accepted, and answered late; adds to any other fault
            rate_limit(retry_after=1)              429 with Retry-After in seconds, not accepted
            error(status=500, accepted=False)      5xx before acceptance, or after
            turned_down(why="quota")               quota: the account is used up; key: it is not valid; model:
                                                   retired. In the provider's shape, not accepted
            drop(accepted=False)                   no answer: before the body is read, or after acceptance
            empty(bare=False)                      200 and no output; bare: an empty body
            wrong_type(what="html")                html: a page for an answer; truncated: half of each file;
                                                   not_media: a page in place of each file
            oversize(what="bytes", mb=32)          files with so many MiB of zeros; pixels: a small PNG that
                                                   says 50,000 x 50,000
            refusal(stage="input", code=None)      the policy refusal in the provider's shape, of input or
                                                   output; code: another reason, such as
                                                   content_policy_violation, IMAGE_RECITATION
            partial(k=1)                           openai: at most k of n images
            task_failed(code="INTERNAL.BAD_OUTPUT.CODE01")   runway
            redirect(location=None)                runway: the output's URL redirects, there or to the file
            other_host(host="localhost", url=None) runway: the output is on another host, or at another URL
        With runway, what concerns outputs shows when the task has ended.
        """
        self._do("fault", provider=provider, kind=kind, times=times, on=on, match=match, **options)

    def clear(self, provider: str | None = None) -> None:
        """Drop the faults that wait, of one provider or of all."""
        self._do("clear", provider=provider)

    def calls(
        self,
        provider: str | None = None,
        kind: str | None = "create",
        match: str | None = None,
        after: int = 0,
    ) -> list[Call]:
        """The newest 20,000 calls, oldest first; see calls.Call. `after`: those with a higher seq."""
        found = self._do("calls", provider=provider, kind=kind, match=match, after=after)
        return [Call(**call) for call in found]

    def paid(self, provider: str | None = None, match: str | None = None, after: int = 0) -> int:
        """How many calls the provider accepted, each of which it bills."""
        return sum(call.accepted for call in self.calls(provider, "create", match, after))

    def last(self) -> int:
        """The seq of the newest call; 0 when there is none."""
        return max((call.seq for call in self.calls(kind=None)), default=0)

    def tasks(self, pending: int | None = None, running: int | None = None, hold: bool | None = None) -> None:
        """How many polls Runway's tasks stay PENDING and RUNNING (at first 1, 1); hold: RUNNING for ever."""
        given = {"pending": pending, "running": running, "hold": hold}
        self._do("tasks", **{name: value for name, value in given.items() if value is not None})

    def refuse(self, seconds: float) -> None:
        """Refuse all connections, those of these controls too, for so long. Returns when it has begun."""
        self._do("refuse", seconds=seconds)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                httpx.get(self._client.base_url.join("/health"), trust_env=False, timeout=1)
            except httpx.ConnectError:
                return
            except httpx.TransportError:
                pass
            time.sleep(0.01)
        raise FaultError("The providers still take connections; look into their log.")

    def reset(self) -> None:
        """Forget faults, calls and tasks."""
        self._do("reset")
