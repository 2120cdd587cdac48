"""Who has joined what; brings broadcasts, presences and changes to them."""

import asyncio
import contextlib
import logging
from collections import defaultdict

import psycopg
from psycopg_pool import PoolTimeout

from .channel import Binding, Channel, Presences, Topic
from .filters import FilterError, parse
from .frames import Broadcast, dumps
from .store import Store
from .wal import Change, Stream, open_stream

log = logging.getLogger("realtime")

LINGER_SECONDS = 30.0  # that the stream goes on when nobody is there any more: a page is being reloaded
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
UNREACHABLE = "Realtime was unable to connect to the project database"
SUBSCRIBED = "Subscribed to PostgreSQL"


class Hub:
    """All channels of a stack. The stream of changes runs while there are any."""

    def __init__(self, store: Store, db_url: str) -> None:
        self.store = store
        self._db_url = db_url
        self._topics: dict[Topic, set[Channel]] = defaultdict(set)
        self._presences: dict[Topic, Presences] = {}
        self._watching: set[Channel] = set()
        self._streaming = asyncio.Event()
        self._stream_task: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """End the stream."""
        if self._linger:
            self._linger.cancel()
        await self._end_stream()

    # -- coming and going ------------------------------------------------------------------------

    def join(self, channel: Channel) -> None:
        """Add a channel; its subscriptions to changes begin when the stream runs."""
        self._topics[channel.topic].add(channel)
        if self._linger:
            self._linger.cancel()
            self._linger = None
        if self._stream_task is None:
            self._stream_task = asyncio.create_task(self._keep_streaming())
        if channel.bindings:
            self._watching.add(channel)
            self.subscribe(channel)

    def leave(self, channel: Channel) -> None:
        """Take a channel away."""
        channel.stop()
        self._watching.discard(channel)
        self.untrack(channel)
        members = self._topics[channel.topic]
        members.discard(channel)
        if not members:
            del self._topics[channel.topic]
        if not self._topics and self._stream_task and self._linger is None:
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(LINGER_SECONDS, lambda: loop.create_task(self._idle()))

    async def _idle(self) -> None:
        self._linger = None
        if not self._topics:
            await self._end_stream()

    async def _end_stream(self) -> None:
        task, self._stream_task = self._stream_task, None
        if task:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # -- broadcasts and presences ----------------------------------------------------------------

    def broadcast(self, topic: Topic, broadcast: Broadcast, but: Channel | None = None) -> None:
        """Send to all on the topic who may read it, but one."""
        for channel in list(self._topics.get(topic, ())):
            if channel is not but and channel.rights.read_broadcast:
                channel.broadcast(broadcast)

    def presence_state(self, channel: Channel) -> None:
        """Tell a channel who is there."""
        known = self._presences.get(channel.topic)
        channel.push("presence_state", known.state() if known else "{}")

    def track(self, channel: Channel) -> None:
        """Tell all what the channel tracks."""
        assert channel.tracked is not None
        known = self._presences.setdefault(channel.topic, Presences())
        self._tell(channel.topic, known.track(channel, channel.tracked))

    def untrack(self, channel: Channel) -> None:
        """Tell all that the channel tracks nothing any more."""
        channel.tracked = None
        known = self._presences.get(channel.topic)
        difference = known.untrack(channel) if known else None
        if not known:
            self._presences.pop(channel.topic, None)
        if difference:
            self._tell(channel.topic, difference)

    def _tell(self, topic: Topic, difference: str) -> None:
        for channel in list(self._topics.get(topic, ())):
            if channel.may_read_presence:
                channel.push("presence_diff", difference)

    # -- changes ---------------------------------------------------------------------------------

    def subscribe(self, channel: Channel) -> None:
        """Ask the database for a channel's subscriptions, also again when its token is a new one."""
        if channel.subscribing:
            channel.subscribing.cancel()
        channel.subscribing = asyncio.create_task(self._subscribe(channel))

    async def _subscribe(self, channel: Channel) -> None:
        """Tell the channel, once it misses nothing any more, or why it gets nothing."""
        told = False
        while True:
            try:
                async with asyncio.timeout(5):
                    await self._streaming.wait()
                for binding in channel.bindings:
                    await self._agree(channel, binding)
            except FilterError as error:
                channel.system("postgres_changes", "error", str(error))
                return
            except (TimeoutError, psycopg.OperationalError, PoolTimeout):
                if not told:
                    channel.system("postgres_changes", "error", UNREACHABLE)
                told = True
                await asyncio.sleep(RETRY_SECONDS[-1])
            else:
                channel.system("postgres_changes", "ok", SUBSCRIBED)
                return

    async def _agree(self, channel: Channel, binding: Binding) -> None:
        """Raises FilterError when the database does not agree."""
        binding.wanted = parse(binding.params)
        failed = "Unable to subscribe to changes with given parameters."
        asked = f"[{binding.wanted}]"
        try:
            binding.simple = await self.store.subscribe(str(channel.claims["role"]), binding.wanted)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise FilterError(
                f"{failed} An exception happened so please check your connect parameters: {asked}. "
                f"Exception: {error.diag.message_primary}"
            ) from error
        if not binding.simple:
            binding.simple = None
            raise FilterError(
                f"{failed} Please check Realtime is enabled for the given connect parameters: {asked}"
            )

    async def _keep_streaming(self) -> None:
        """Read the stream, and make it anew whenever it ends, until cancelled."""
        failures = 0
        while True:
            try:
                stream = await open_stream(self._db_url, await self.store.publications())
            except (psycopg.Error, PoolTimeout) as error:
                if not failures:
                    log.error("There is no stream of changes (a stack from before Realtime needs "
                              "`scripts/stack reset`): %s", str(error).strip())  # fmt: skip
                failures += 1
            else:
                failures = 0
                await self._read(stream)
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])

    async def _read(self, stream: Stream) -> None:
        try:
            self._streaming.set()
            async for change in stream.changes():
                await self._bring(change)
        except (psycopg.OperationalError, PoolTimeout) as error:
            log.warning("The stream of changes ended and begins again: %s", str(error).strip())
        finally:
            self._streaming.clear()
            await stream.close()
        # What was written meanwhile is missed; the message tells when it goes on.
        for channel in self._watching:
            self.subscribe(channel)

    async def _bring(self, change: Change) -> None:
        if (change.relation.schema, change.relation.table) == ("realtime", "messages"):
            if change.action == "INSERT":
                self._from_sql(change.new)
            return
        asked = [
            (channel, binding)
            for channel in self._watching
            for binding in channel.bindings
            if binding.may_want(change)
        ]
        if not asked:
            return
        subscribers = [
            {
                "number": number, "role": channel.claims["role"], "claims": channel.claims,
                "filters": binding.wanted.filters, "selected": binding.wanted.select,
            }
            for number, (channel, binding) in enumerate(asked)
            if binding.wanted
        ]  # fmt: skip
        try:
            forms = await self.store.seen(change, subscribers)
        except psycopg.Error as error:
            # The connection is gone, or the server is ending: the stream will be, too.
            if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith(
                ("08", "57P")
            ):
                raise
            log.error("A change of %s was not sent: %s", change.relation.table, str(error).strip())
            return
        for form in forms:
            ids: dict[Channel, list[int]] = defaultdict(list)
            for number in form.numbers:
                channel, binding = asked[number]
                ids[channel].append(binding.id)
            for channel, found in ids.items():
                if channel in self._watching:
                    channel.push("postgres_changes", f'{{"ids":{dumps(found)},"data":{form.data}}}')

    def _from_sql(self, row: dict[str, str | None]) -> None:
        """A row of realtime.messages: realtime.send() and realtime.send_binary()."""
        topic, event, payload, binary = (
            row.get(name) for name in ("topic", "event", "payload", "binary_payload")
        )
        if row.get("extension") != "broadcast" or topic is None or event is None:
            return
        content = bytes.fromhex(binary.removeprefix("\\x")) if binary is not None else (payload or "{}")
        meta = dumps({"id": row.get("id")})
        self.broadcast((row.get("private") == "t", topic), Broadcast(event, content, meta))
