"""One WebSocket: reads messages one after the other, and sends through a queue with a limit."""

import asyncio
import itertools
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout
from starlette.types import Receive, Send

from ..auth.tokens import Tokens
from .channel import Binding, Channel, Rate, Topic
from .frames import Broadcast, FrameError, Message, decode, dumps, encode, encode_broadcast
from .hub import UNREACHABLE, Hub
from .store import Claims, Rights
from .tokens import TokenError, read

log = logging.getLogger("realtime")

PREFIX = "realtime:"
GOODBYE_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # that a client may say nothing; clients send a heartbeat every 25
# What may wait for a client that reads slowly. It is let go when it is more.
QUEUE_FRAMES, QUEUE_BYTES = 1000, 4 * 1024 * 1024
MOST_CHANNELS = 100
MOST_BINDINGS = 100  # of a channel
MOST_JOINS, MOST_MESSAGES = 100, 100  # a second
MOST_TRACKED = 64 * 1024  # bytes of a presence
ABSENT_REPLAY = "The local Realtime replays no broadcasts: join without `replay`."
ABSENT_LEGACY = (
    "The local Realtime needs `config` in what a channel is joined with, as clients of version 2 send it."
)


class RefusalError(Exception):
    """A join or a message that is not granted: the reason, as clients get it."""


class Outbox:
    """What is to be sent, in order. Never more than the limits: `overflow` is called, once."""

    def __init__(self) -> None:
        self._frames: deque[str | bytes] = deque()
        self._bytes = 0
        self._waiting = asyncio.Event()
        self._ended = False
        self.full = False
        self.overflow: Callable[[], object] = lambda: None

    def put(self, frame: str | bytes) -> None:
        """Add a frame; does not wait."""
        if self.full or self._ended:
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        if len(self._frames) > QUEUE_FRAMES or self._bytes > QUEUE_BYTES:
            self.full = True
            self._frames.clear()
            self.overflow()
        self._waiting.set()

    def end(self) -> None:
        """Take nothing more."""
        self._ended = True
        self._waiting.set()

    async def get(self) -> str | bytes | None:
        """The next frame; None after the last."""
        while not self._frames:
            if self._ended:
                return None
            self._waiting.clear()
            await self._waiting.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame)
        return frame


class Connection:
    """A client and its channels."""

    def __init__(
        self, hub: Hub, tokens: Tokens, version: str, api_token: str, headers: dict[str, str]
    ) -> None:
        self._hub, self._tokens, self._version = hub, tokens, version
        self._api_token, self._headers = api_token, headers
        self._channels: dict[str, Channel] = {}
        self._outbox = Outbox()
        self._ids = itertools.count(1)
        self._joins, self._messages = Rate(MOST_JOINS, 1.0), Rate(MOST_MESSAGES, 1.0)

    # -- the socket ------------------------------------------------------------------------------

    async def serve(self, receive: Receive, send: Send) -> bool:
        """Until the client goes. False when it has to be cut off, as it does not read."""
        reading = asyncio.create_task(self._read(receive))
        writing = asyncio.create_task(self._write(send))
        self._outbox.overflow = writing.cancel
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            if not writing.done() and (reason := reading.result()):
                # What is queued is still sent, and then why it ends.
                self._outbox.end()
                await asyncio.wait((writing,), timeout=GOODBYE_SECONDS)
                if writing.done() and not writing.cancelled() and writing.exception() is None:
                    code, text = reason
                    await send({"type": "websocket.close", "code": code, "reason": text[:100]})
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            for channel in list(self._channels.values()):
                self._hub.leave(channel)
            self._channels.clear()
        return not self._outbox.full

    async def _write(self, send: Send) -> None:
        while (frame := await self._outbox.get()) is not None:
            kind = "text" if isinstance(frame, str) else "bytes"
            await send({"type": "websocket.send", kind: frame})

    async def _read(self, receive: Receive) -> tuple[int, str] | None:
        """None when the client has gone; else why it shall: a code and a sentence."""
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    event = await receive()
            except TimeoutError:
                return 1001, f"nothing was heard for {SILENCE_SECONDS:.0f} seconds"
            if event["type"] == "websocket.disconnect":
                return None
            raw = event.get("text")
            try:
                message = decode(event["bytes"] if raw is None else raw, self._version)
            except FrameError as error:
                return 1003, str(error)
            await self._handle(message)

    def push(self, topic: str, event: str, payload: str, ref: str | None, join_ref: str | None) -> None:
        """Send a message; the payload is JSON text."""
        self._outbox.put(encode(self._version, topic, event, payload, ref, join_ref))

    def push_broadcast(self, topic: str, broadcast: Broadcast) -> None:
        """Send a broadcast, if the client's version can express it."""
        frame = encode_broadcast(self._version, topic, broadcast)
        if frame is not None:
            self._outbox.put(frame)

    def _reply(self, message: Message, status: str, response: dict[str, Any]) -> None:
        payload = dumps({"status": status, "response": response})
        self.push(message.topic, "phx_reply", payload, message.ref, message.join_ref)

    # -- messages --------------------------------------------------------------------------------

    async def _handle(self, message: Message) -> None:
        if message.topic == "phoenix" and message.event == "heartbeat":
            self._reply(message, "ok", {})
            return
        if message.event == "phx_join":
            try:
                await self._join(message)
            except RefusalError as refusal:
                self._reply(message, "error", {"reason": str(refusal)})
            return
        channel = self._channels.get(message.topic)
        if channel is None:
            self._reply(message, "error", {"reason": "unmatched topic"})
            return
        if message.join_ref is not None and message.join_ref != channel.join_ref:
            return  # it is for the channel that this one has replaced
        if message.event == "phx_leave":
            channel.reply(message.ref, "ok")
            self._close(channel)
        elif not self._messages.spend():
            self._shut(channel, "Too many messages per second")
        elif message.event == "broadcast":
            await self._broadcast(channel, message)
        elif message.event == "presence":
            await self._presence(channel, message)
        elif message.event == "access_token":
            await self._access_token(channel, message.payload)

    def _close(self, channel: Channel) -> None:
        """End a channel, and say so."""
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]
        self._hub.leave(channel)
        self.push(channel.name, "phx_close", "{}", channel.join_ref, channel.join_ref)

    def _shut(self, channel: Channel, message: str) -> None:
        """End a channel that did or is something that is not allowed."""
        channel.system("system", "error", message)
        self._close(channel)

    # -- joining ---------------------------------------------------------------------------------

    async def _join(self, message: Message) -> None:
        name, payload = message.topic, message.payload
        if not name.startswith(PREFIX):
            raise RefusalError("unmatched topic")
        if name == PREFIX:
            raise RefusalError("TopicNameRequired: You must provide a topic name")
        if not self._joins.spend():
            raise RefusalError("ClientJoinRateLimitReached: Too many joins per second")
        if name not in self._channels and len(self._channels) >= MOST_CHANNELS:
            raise RefusalError("ChannelRateLimitReached: Too many channels")
        config = payload.get("config") if isinstance(payload, dict) else None
        if not isinstance(config, dict):
            raise RefusalError(f"InvalidJoinPayload: {ABSENT_LEGACY}")
        broadcast, presence = (_mapping(config, part) for part in ("broadcast", "presence"))
        if broadcast.get("replay") is not None:
            raise RefusalError(f"UnableToReplayMessages: {ABSENT_REPLAY}")
        token, claims = self._claims(payload.get("access_token") or payload.get("user_token"))
        topic: Topic = (config.get("private") is True, name.removeprefix(PREFIX))
        enabled = presence.get("enabled") is True
        rights = await self._rights(topic, claims)
        if not (rights.read_broadcast or (enabled and rights.read_presence)):
            raise RefusalError(
                f"Unauthorized: You do not have permissions to read from this Channel topic: {topic[1]}"
            )
        channel = Channel(
            connection=self, name=name, topic=topic, join_ref=message.join_ref or message.ref, token=token,
            claims=claims, rights=rights, bindings=self._bindings(config),
            presence_key=str(presence.get("key") or "") or str(uuid.uuid4()), presence_enabled=enabled,
            acknowledges=broadcast.get("ack") is True, hears_itself=broadcast.get("self") is True,
        )  # fmt: skip
        if before := self._channels.get(name):
            self._close(before)
        self._channels[name] = channel
        self._end_with_token(channel)
        bound = [{**binding.params, "id": binding.id} for binding in channel.bindings]
        channel.reply(message.ref, "ok", dumps({"postgres_changes": bound}))
        if enabled and rights.read_presence:
            self._hub.presence_state(channel)
        self._hub.join(channel)

    def _bindings(self, config: dict[str, Any]) -> list[Binding]:
        asked = config.get("postgres_changes") or []
        if not isinstance(asked, list) or not all(isinstance(params, dict) for params in asked):
            raise RefusalError("InvalidJoinPayload: `postgres_changes` has to be a list of objects")
        if len(asked) > MOST_BINDINGS:
            raise RefusalError(f"InvalidJoinPayload: more than {MOST_BINDINGS} `postgres_changes`")
        return [Binding(next(self._ids), params) for params in asked]

    def _claims(self, token: object) -> tuple[str, Claims]:
        """The token and its claims; without one, or with a key, those of the API key."""
        given = token if isinstance(token, str) and not token.startswith("sb_") else self._api_token
        try:
            return given, read(self._tokens, given)
        except TokenError as error:
            raise RefusalError(str(error)) from error

    async def _rights(self, topic: Topic, claims: Claims) -> Rights:
        private, name = topic
        if not private:
            return Rights()
        try:
            return await self._hub.store.rights(name, claims, self._headers)
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise RefusalError(f"UnableToConnectToProject: {UNREACHABLE}") from error
        except psycopg.Error as error:
            log.error("A policy on realtime.messages failed: %s", str(error).strip())
            raise RefusalError(
                f"Unauthorized: You do not have permissions to read from this Channel topic: {name}"
            ) from error

    # -- tokens ----------------------------------------------------------------------------------

    def _end_with_token(self, channel: Channel) -> None:
        """End the channel when its token does."""
        if channel.expiry:
            channel.expiry.cancel()
        left = channel.claims["exp"] - time.time()
        # Loops count in milliseconds, and not for ten years: look again in a day.
        loop = asyncio.get_running_loop()
        if left > 86_400:
            channel.expiry = loop.call_later(86_400, self._end_with_token, channel)
        else:
            channel.expiry = loop.call_later(
                max(left, 0), self._shut, channel, "Token has expired 0 seconds ago"
            )

    async def _access_token(self, channel: Channel, payload: Any) -> None:
        """A new token for a channel, or the end of the channel when it is none."""
        token = payload.get("access_token") if isinstance(payload, dict) else None
        if not isinstance(token, str) or token.startswith("sb_") or token == channel.token:
            return
        try:
            token, claims = self._claims(token)
            rights = await self._rights(channel.topic, claims)
        except RefusalError as refusal:
            self._shut(channel, str(refusal).partition(": ")[2])
            return
        before = channel.rights
        if (before.read_broadcast and not rights.read_broadcast) or (
            channel.presence_enabled and before.read_presence and not rights.read_presence
        ):
            self._shut(
                channel, f"You no longer have permission to read from this Channel topic: {channel.topic[1]}"
            )
            return
        channel.token, channel.claims, channel.rights = token, claims, rights
        self._end_with_token(channel)
        if channel.bindings:
            self._hub.subscribe(channel)

    # -- what clients say to each other ----------------------------------------------------------

    async def _broadcast(self, channel: Channel, message: Message) -> None:
        payload = message.payload
        if isinstance(payload, dict):
            event = payload.get("event")
            payload = Broadcast(event if isinstance(event, str) else "", dumps(payload.get("payload")))
        if not isinstance(payload, Broadcast):
            channel.reply(message.ref, "error", dumps({"reason": "A broadcast has to be an object"}))
            return
        # Who may not write is not told, as hosted.
        if not channel.rights.write_broadcast:
            return
        self._hub.broadcast(channel.topic, payload, None if channel.hears_itself else channel)
        if channel.acknowledges:
            channel.reply(message.ref, "ok")

    async def _presence(self, channel: Channel, message: Message) -> None:
        payload = message.payload if isinstance(message.payload, dict) else {}
        event = str(payload.get("event", "")).lower()
        if not channel.presences.spend():
            self._shut(channel, "Client presence rate limit exceeded")
        elif event == "untrack":
            self._hub.untrack(channel)
            channel.reply(message.ref, "ok")
        elif event != "track" or not channel.rights.write_presence:
            channel.reply(message.ref, "error")
        elif not isinstance(tracked := payload.get("payload", {}), dict):
            channel.reply(message.ref, "error", dumps({"reason": "Presence track payload must be a map"}))
        elif len(dumps(tracked)) > MOST_TRACKED:
            self._shut(channel, "Track message size exceeded")
        else:
            if tracked != channel.tracked:
                channel.tracked = tracked
                self._hub.track(channel)
            channel.reply(message.ref, "ok")


def _mapping(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of a join's config; absent is empty."""
    part = config.get(name)
    if part is not None and not isinstance(part, dict):
        raise RefusalError(f"InvalidJoinPayload: `{name}` has to be an object")
    return part or {}
