"""The endpoints below /storage/v1."""

import asyncio
import functools
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..auth.errors import AuthError
from ..auth.tokens import Tokens
from ..keys import Keys
from . import body, names, store
from .cursor import COLUMNS, ORDERS, Cursor
from .disk import BLOCK, Disk, TooLargeError, Written
from .errors import (
    StorageError,
    access_denied,
    from_database,
    invalid,
    no_such_bucket,
    no_such_key,
    too_large,
)
from .store import SERVICE, Claims, Row

log = logging.getLogger("storage")

Endpoint = Callable[[Request], Awaitable[Response]]
MOST_PATHS = 1000  # in one request
BIGGEST_PAGE = 10_000  # entries of a list
MOST_IN_A_PAGE = 1000  # of those with a cursor
SIGNED_UPLOAD_SECONDS = 2 * 60 * 60  # that a signed upload URL is good for, as hosted
SIGNED_SCOPES = ("download", "upload")
ABSENT = {
    "/render/": "image transformations", "/upload/resumable": "resumable uploads", "/s3": "the S3 protocol",
    "/iceberg": "analytics buckets", "/vector": "vector buckets", "/cdn/": "a cache to purge",
}  # fmt: skip
QUERY, SORT = "querystring", "body/sortBy"  # where a value stands
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def instant(value: datetime | None) -> str | None:
    """A time as Supabase Storage writes it."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


def bucket_json(row: Row) -> Row:
    """A bucket as clients see it."""
    return {
        "id": row["id"],
        "name": row["name"],
        "owner": row["owner_id"] or "",
        "public": bool(row["public"]),
        "type": row["type"],
        "file_size_limit": row["file_size_limit"],
        "allowed_mime_types": row["allowed_mime_types"],
        "created_at": instant(row["created_at"]),
        "updated_at": instant(row["updated_at"]),
    }


def object_json(row: Row) -> Row:
    """An object as remove() returns it."""
    return {
        "name": row["name"],
        "bucket_id": row["bucket_id"],
        "owner": str(row["owner"] or ""),
        "owner_id": row["owner_id"],
        "id": str(row["id"]),
        "version": row["version"],
        "updated_at": instant(row["updated_at"]),
        "created_at": instant(row["created_at"]),
        "last_accessed_at": instant(row["last_accessed_at"]),
        "metadata": row["metadata"],
        "user_metadata": row["user_metadata"],
    }


def entry_json(row: Row) -> Row:
    """A file or a folder in a list; a folder has a name only."""
    times = {name: instant(row[name]) for name in ("updated_at", "created_at", "last_accessed_at")}
    entry_id = str(row["id"]) if row["id"] else None
    return {"name": row["name"], "id": entry_id, **times, "metadata": row["metadata"]}


def paged_json(row: Row, level: int | None) -> Row:
    """A file or a folder in a list in pages; with a level, its part of the name there as `key`."""
    key = {} if level is None else {"key": row["name"].split("/")[level]}
    return {**key, **entry_json(row)}


def info_json(row: Row) -> Row:
    """What info() returns."""
    stored = row["metadata"] or {}
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "version": row["version"],
        "bucket_id": row["bucket_id"],
        "size": stored.get("size"),
        "content_type": stored.get("mimetype"),
        "cache_control": stored.get("cacheControl"),
        "etag": stored.get("eTag"),
        "metadata": row["user_metadata"],
        "last_modified": instant(row["updated_at"]),
        "created_at": instant(row["created_at"]),
    }


def bucket_columns(params: body.Json, limit: int) -> Row:
    """The settings of a bucket that a request names, by column."""
    found: Row = {}
    if "public" in params:
        found["public"] = body.boolean(params, "public", False)
    if "file_size_limit" in params:
        value = params["file_size_limit"]
        if isinstance(value, str):
            value = names.size(value)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise invalid("body/file_size_limit must be integer, such as 5000000, or a text such as 5MB")
        if value is not None and value > limit:
            raise too_large()
        found["file_size_limit"] = value
    if "allowed_mime_types" in params:
        value = params["allowed_mime_types"]
        if value is not None:
            value = body.texts(params, "allowed_mime_types", MOST_PATHS) if value else []
            names.require_mime_types(value := [entry for entry in value if entry])
        found["allowed_mime_types"] = value
    return found


def wanted(header: str, size: int) -> tuple[int, int] | None:
    """(first byte, number of bytes) of a Range header with one range; None when all is wanted."""
    found = RANGE.fullmatch(header.strip())
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":  # the last so many bytes
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start > end:
        message = "The requested range is not satisfiable"
        raise StorageError(416, "InvalidRange", message, 416)
    return start, end - start + 1


def unchanged(headers: Headers, etag: str, modified: datetime) -> bool:
    """Whether the reader has these bytes already, by If-None-Match or, without it, If-Modified-Since."""
    if (known := headers.get("if-none-match")) is not None:
        return known == etag
    try:
        since = parsedate_to_datetime(headers["if-modified-since"])
        return modified.replace(microsecond=0) <= since.astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return False


class Storage:
    """The app for one stack, as `app`; open() before the first request, close() at the end.

    `limit` is how many bytes an object may have where its bucket does not say less.
    """

    def __init__(self, keys: Keys, db_url: str, folder: Path, issuer: str, limit: int) -> None:
        self.keys = keys
        self.tokens = Tokens(keys, issuer)
        self.limit = limit
        self.disk = Disk(folder)
        self.db_url = db_url
        self.pool: store.Pool = AsyncConnectionPool(
            db_url,
            min_size=0,  # a stack that was made before there was Storage has no such role
            max_size=8,
            timeout=30,
            kwargs={"autocommit": True, "row_factory": dict_row},
            check=lambda connection: store.check(self.pool, connection),
            open=False,
        )
        whole = "/{bucket}/{name:path}"
        routes: list[tuple[str, str, Endpoint]] = [
            ("POST", "/bucket", self.create_bucket),
            ("GET", "/bucket", self.list_buckets),
            ("GET", "/bucket/{bucket}", self.get_bucket),
            ("PUT", "/bucket/{bucket}", self.update_bucket),
            ("DELETE", "/bucket/{bucket}", self.delete_bucket),
            ("POST", "/bucket/{bucket}/empty", self.empty_bucket),
            ("POST", "/object/move", self.move),
            ("POST", "/object/copy", self.copy),
            ("POST", "/object/list/{bucket}", self.list_objects),
            ("POST", "/object/list-v2/{bucket}", self.list_in_pages),
            ("POST", f"/object/upload/sign{whole}", self.sign_upload),
            ("PUT", f"/object/upload/sign{whole}", self.upload_signed),
            ("POST", "/object/sign/{bucket}", self.sign_many),
            ("POST", f"/object/sign{whole}", self.sign),
            ("GET", f"/object/sign{whole}", self.download_signed),
            ("GET", f"/object/info/public{whole}", self.info_public),
            ("GET", f"/object/info/authenticated{whole}", self.info),
            ("GET", f"/object/info{whole}", self.info),
            ("GET", f"/object/public{whole}", self.download_public),
            ("GET", f"/object/authenticated{whole}", self.download),
            ("DELETE", "/object/{bucket}", self.remove_many),
            ("GET", f"/object{whole}", self.download),
            ("POST", f"/object{whole}", self.create),
            ("PUT", f"/object{whole}", self.update),
            ("DELETE", f"/object{whole}", self.remove),
        ]
        self.app = Starlette(
            routes=[Route(path, guarded(endpoint), methods=[method]) for method, path, endpoint in routes],
            exception_handlers={HTTPException: no_route},
        )

    async def open(self) -> None:
        """Connect, and forget files that a crash left."""
        await asyncio.to_thread(self.disk.open)
        await self.pool.open()
        try:
            async with await psycopg.AsyncConnection.connect(
                self.db_url, autocommit=True, row_factory=dict_row, connect_timeout=5
            ) as connection:
                known = await store.versions(connection)  # the owner sees every row
        except psycopg.Error as error:
            log.warning("No Storage here: %s", str(error).strip())
            return
        if left := await asyncio.to_thread(self.disk.remove_others, known):
            log.info("Removed %s files that no row names.", left)

    async def close(self) -> None:
        """Disconnect."""
        await self.pool.close()

    def _claims(self, request: Request) -> Claims:
        try:
            return self.tokens.claims(request)
        except (AuthError, RecursionError) as error:
            raise access_denied(str(error)) from error

    async def _settings(self, bucket: str) -> Row | None:
        """What a bucket allows, which counts also for those who may not see it."""
        async with self.pool.connection() as connection:  # the owner sees every row
            return await store.bucket(connection, bucket)

    # -- buckets -----------------------------------------------------------------------------------

    async def create_bucket(self, request: Request) -> Response:
        """{name, id?, public?, file_size_limit?, allowed_mime_types?} -> {name}."""
        claims, params = self._claims(request), await body.json_body(request)
        name = body.text(params, "name")
        bucket_id = body.text(params, "id", name)
        names.require_bucket(bucket_id)
        names.require_bucket(name)
        owner, owner_id = store.owner(claims)
        values = {"id": bucket_id, "name": name, "owner": owner, "owner_id": owner_id, "public": False}
        async with store.scope(self.pool, claims) as connection:
            await store.create_bucket(connection, {**values, **bucket_columns(params, self.limit)})
        return JSONResponse({"name": name})

    async def list_buckets(self, request: Request) -> Response:
        """?limit&offset&search&sortColumn&sortOrder -> those that the caller sees."""
        claims, params = self._claims(request), dict(request.query_params)
        columns = ("name", "id", "created_at", "updated_at")
        async with store.scope(self.pool, claims) as connection:
            rows = await store.buckets(
                connection, params.get("search", ""),
                limit=body.integer(params, "limit", 1, None, QUERY) if "limit" in params else None,
                offset=body.integer(params, "offset", 0, 0, QUERY),
                column=body.choice(params, "sortColumn", columns, QUERY),
                descending=body.choice(params, "sortOrder", ORDERS, QUERY) == "desc",
            )  # fmt: skip
        return JSONResponse([bucket_json(row) for row in rows])

    async def get_bucket(self, request: Request) -> Response:
        """One."""
        async with store.scope(self.pool, self._claims(request)) as connection:
            row = await store.bucket(connection, request.path_params["bucket"])
        if row is None:
            raise no_such_bucket()
        return JSONResponse(bucket_json(row))

    async def update_bucket(self, request: Request) -> Response:
        """{public?, file_size_limit?, allowed_mime_types?}."""
        claims, params = self._claims(request), await body.json_body(request)
        changes = bucket_columns(params, self.limit)
        if not changes:
            raise invalid("body must have public, file_size_limit or allowed_mime_types")
        async with store.scope(self.pool, claims) as connection:
            if not await store.update_bucket(connection, request.path_params["bucket"], changes):
                raise no_such_bucket()
        return JSONResponse({"message": "Successfully updated"})

    async def delete_bucket(self, request: Request) -> Response:
        """Only when it is empty."""
        try:
            async with store.scope(self.pool, self._claims(request)) as connection:
                if not await store.delete_bucket(connection, request.path_params["bucket"]):
                    raise no_such_bucket()
        except errors.ForeignKeyViolation as error:
            message = "The bucket you tried to delete is not empty"
            raise StorageError(409, "ResourceNotEmpty", message) from error
        return JSONResponse({"message": "Successfully deleted"})

    async def empty_bucket(self, request: Request) -> Response:
        """Every object that the caller may delete."""
        bucket = request.path_params["bucket"]
        async with store.scope(self.pool, self._claims(request)) as connection:
            if await store.bucket(connection, bucket) is None:
                raise no_such_bucket()
            rows = await store.delete_all(connection, bucket)
        await self._forget(rows)
        # As hosted, where a queue does it.
        return JSONResponse({"message": "Empty bucket has been queued. Completion may take up to an hour."})

    # -- writing objects ---------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """The bytes, as they are or in a form -> {Id, Key}. With x-upsert: true over what is there."""
        claims = self._claims(request)
        return JSONResponse(await self._upload(request, claims, upsert=replaces(request)))

    async def update(self, request: Request) -> Response:
        """The same, over what is there."""
        return JSONResponse(await self._upload(request, self._claims(request), upsert=True))

    async def sign_upload(self, request: Request) -> Response:
        """-> {url, token}, for whoever may upload there now; with x-upsert: true, over what is there."""
        claims = self._claims(request)
        await body.json_body(request)  # the clients send {} or nothing
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        names.require_key(name)
        over, described = replaces(request), body.metadata_header(request)
        await store.try_to_save(self.pool, claims, bucket, name, announced(request), described, upsert=over)
        token = self._token(
            "upload", f"{bucket}/{name}", SIGNED_UPLOAD_SECONDS, owner=claims.get("sub"), upsert=over
        )
        return JSONResponse({"url": f"/object/upload/sign/{bucket}/{name}?token={token}", "token": token})

    async def upload_signed(self, request: Request) -> Response:
        """The bytes, from whoever has a token of sign_upload() for this very path -> {Key}."""
        claims = self._signature(request, "upload")
        # As hosted: the signer's rights were looked at when it was signed, the bucket's limits hold now.
        signer = {**SERVICE, "sub": claims.get("owner")}
        stored = await self._upload(request, signer, upsert=claims.get("upsert") is True)
        return JSONResponse({"Key": stored["Key"]})

    async def _upload(self, request: Request, claims: Claims, *, upsert: bool) -> Row:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        upload = await body.upload(request)
        settings = await self._settings(bucket)
        if settings is None:
            raise no_such_bucket()
        names.require_key(name)
        limit = min(self.limit, settings["file_size_limit"] or self.limit)
        about, allowed = upload.about(), settings["allowed_mime_types"]
        if not upload.form:
            names.require_mime_type(about.mime_type, allowed)
        length = int(request.headers.get("content-length") or sys.maxsize)
        if sys.maxsize > length > limit + body.MAX_FIELDS:
            raise too_large()
        if length > BLOCK:
            # Who may not write is refused before many bytes are taken.
            expected = {**announced(request), "mimetype": about.mime_type}
            await store.try_to_save(self.pool, claims, bucket, name, expected, about.metadata, upsert=upsert)
        written = await self._write(upload, limit, allowed)
        about = upload.about()
        metadata = {
            "eTag": written.etag,
            "size": written.size,
            "mimetype": about.mime_type,
            "cacheControl": about.cache_control,
            "lastModified": instant(datetime.now(UTC)),
            "contentLength": written.size,
            "httpStatusCode": 200,
        }
        object_id = await self._replace(
            claims, bucket, name, written.version, metadata, about.metadata, upsert=upsert
        )
        return {"Id": object_id, "Key": f"{bucket}/{name}"}

    async def _write(self, upload: body.Upload, limit: int, allowed: list[str] | None) -> Written:
        """The bytes as a file, if they are not too many and of a type that the bucket takes."""
        try:
            written = await self.disk.write(upload.chunks, limit)
        except TooLargeError:
            raise too_large() from None
        try:
            names.require_mime_type(upload.about().mime_type, allowed)
        except StorageError:
            self.disk.remove([written.version])
            raise
        return written

    async def _replace(
        self, claims: Claims, bucket: str, name: str, version: str, metadata: Row, user_metadata: Row | None,
        *, upsert: bool,
    ) -> str:  # fmt: skip
        """Commit a row for a file that is there, then forget the file that it named before.

        When the database refuses, the new file goes. When nobody knows, such as after a lost connection, it
        stays: the next start removes it if no row names it.
        """
        try:
            object_id, old = await store.save(
                self.pool, claims, bucket, name, version, metadata, user_metadata, upsert=upsert
            )
        except (psycopg.Error, StorageError) as error:
            # A value that cannot be sent has no sqlstate.
            if isinstance(error, (StorageError, psycopg.DataError)) or error.sqlstate:
                self.disk.remove([version])
            raise
        await self._forget(old)
        return object_id

    async def _forget(self, rows: list[Row]) -> None:
        if rows:
            await asyncio.to_thread(self.disk.remove, [row["version"] for row in rows])

    async def remove(self, request: Request) -> Response:
        """One object."""
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        async with store.scope(self.pool, self._claims(request)) as connection:
            rows = await store.delete(connection, bucket, [name])
        if not rows:
            raise no_such_key()
        await self._forget(rows)
        return JSONResponse({"message": "Successfully deleted"})

    async def remove_many(self, request: Request) -> Response:
        """{prefixes: [names]} -> those that the caller may delete, and that are deleted now."""
        claims, params = self._claims(request), await body.json_body(request)
        wanted_names = body.texts(params, "prefixes", MOST_PATHS)
        async with store.scope(self.pool, claims) as connection:
            rows = await store.delete(connection, request.path_params["bucket"], wanted_names)
        await self._forget(rows)
        return JSONResponse([object_json(row) for row in rows])

    async def move(self, request: Request) -> Response:
        """{bucketId, sourceKey, destinationKey, destinationBucket?}."""
        claims, params = self._claims(request), await body.json_body(request)
        bucket, source, to_bucket, target = self._both(params)
        async with store.scope(self.pool, claims) as connection:
            row = await store.move(connection, bucket, source, to_bucket, target)
        if row is None:
            raise no_such_key()
        key = f"{to_bucket}/{target}"
        return JSONResponse({"message": "Successfully moved", "Id": str(row["id"]), "Key": key})

    async def copy(self, request: Request) -> Response:
        """{bucketId, sourceKey, destinationKey, destinationBucket?}; x-upsert as for uploads.

        With copyMetadata: false the user's own metadata comes from x-metadata, and `metadata`, which has
        cacheControl and mimetype, counts.
        """
        claims, params = self._claims(request), await body.json_body(request)
        bucket, source, to_bucket, target = self._both(params)
        copied = body.boolean(params, "copyMetadata", True)
        instead = None if copied else body.instead(request, params)
        async with store.scope(self.pool, claims) as connection:
            original = await store.find(connection, bucket, source)
        if original is None:
            raise no_such_key()
        try:
            version = await self.disk.copy(original["version"])
        except FileNotFoundError:
            raise no_such_key() from None
        metadata, user_metadata = original["metadata"], original["user_metadata"]
        if instead:
            metadata, user_metadata = {**(metadata or {}), **instead[0]}, instead[1]
        object_id = await self._replace(
            claims, to_bucket, target, version, metadata, user_metadata, upsert=replaces(request)
        )
        return JSONResponse({"Id": object_id, "Key": f"{to_bucket}/{target}"})

    @staticmethod
    def _both(params: body.Json) -> tuple[str, str, str, str]:
        bucket, target = body.text(params, "bucketId"), body.text(params, "destinationKey")
        names.require_key(target)
        return bucket, body.text(params, "sourceKey"), body.text(params, "destinationBucket", bucket), target

    # -- reading objects ---------------------------------------------------------------------------

    async def list_objects(self, request: Request) -> Response:
        """{prefix, limit?, offset?, sortBy?: {column, order}, search?} -> what lies directly below it."""
        claims, params = self._claims(request), await body.json_body(request)
        sort = body.sort(params)
        async with store.scope(self.pool, claims) as connection:
            rows = await store.listing(
                connection, request.path_params["bucket"], body.text(params, "prefix"),
                body.text(params, "search", ""),
                limit=min(body.integer(params, "limit", 1, 100), BIGGEST_PAGE),
                offset=body.integer(params, "offset", 0, 0),
                column=body.choice(sort, "column", store.SORTABLE, SORT),
                descending=body.choice(sort, "order", ORDERS, SORT) == "desc",
            )  # fmt: skip
        return JSONResponse([entry_json(row) for row in rows])

    async def list_in_pages(self, request: Request) -> Response:
        """{prefix?, with_delimiter?, limit?, cursor?, sortBy?: {column, order}} -> what begins so.

        In the answer are hasNext, nextCursor, nextCursorKey, folders, objects. A cursor goes on as it began.
        """
        claims, params = self._claims(request), await body.json_body(request)
        prefix, by_folder = body.text(params, "prefix", ""), body.boolean(params, "with_delimiter", False)
        limit = min(body.integer(params, "limit", 1, MOST_IN_A_PAGE), MOST_IN_A_PAGE)
        if cursor := body.text(params, "cursor", ""):
            begun = Cursor.decode(cursor)
        else:
            sort = body.sort(params)
            begun = Cursor(
                body.choice(sort, "column", COLUMNS, SORT), body.choice(sort, "order", ORDERS, SORT)
            )
        async with store.scope(self.pool, claims) as connection:
            rows = await store.page(
                connection, request.path_params["bucket"], prefix, by_folder=by_folder, limit=limit + 1,
                column=begun.column, descending=begun.order == "desc", after=(begun.place, begun.name),
            )  # fmt: skip
        answer: Row = {"hasNext": len(rows) > limit}
        rows = rows[:limit]
        if answer["hasNext"]:
            name, place = rows[-1]["name"], rows[-1][begun.column]
            place = place if begun.column == "name" else place.isoformat()
            answer["nextCursor"] = Cursor(begun.column, begun.order, name, place).encode()
            answer["nextCursorKey"] = name
        level = prefix.count("/") if by_folder else None
        for kind, wanted_kind in (("folders", True), ("objects", False)):
            answer[kind] = [paged_json(row, level) for row in rows if (row["id"] is None) == wanted_kind]
        return JSONResponse(answer)

    async def _visible(self, request: Request, *, public: bool = False) -> Row:
        """The object that the path names, if the caller sees it; in a public bucket everybody does."""
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        claims = SERVICE if public else self._claims(request)
        settings = await self._settings(bucket)
        if settings is None or (public and not settings["public"]):
            raise no_such_bucket()
        async with store.scope(self.pool, SERVICE if settings["public"] else claims) as connection:
            row = await store.find(connection, bucket, name)
        if row is None:
            raise no_such_key()
        return row

    async def info(self, request: Request) -> Response:
        """What is known about an object."""
        return JSONResponse(info_json(await self._visible(request)))

    async def info_public(self, request: Request) -> Response:
        """The same in a public bucket, for everybody."""
        return JSONResponse(info_json(await self._visible(request, public=True)))

    async def download(self, request: Request) -> Response:
        """The bytes, or one range of them; HEAD: the headers."""
        return await self._send(request, lambda: self._visible(request))

    async def download_public(self, request: Request) -> Response:
        """The same from a public bucket, for everybody."""
        return await self._send(request, lambda: self._visible(request, public=True))

    async def download_signed(self, request: Request) -> Response:
        """The same for whoever has a token that sign() gave for this very path, until it expires."""
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        claims = self._signature(request, "download")

        async def row() -> Row:
            async with store.scope(self.pool, SERVICE) as connection:
                found = await store.find(connection, bucket, name)
            if found is None:
                raise no_such_key()
            return found

        return await self._send(request, row, expires=claims["exp"])

    async def _send(
        self, request: Request, find: Callable[[], Awaitable[Row]], expires: int | None = None
    ) -> Response:
        missing: set[str | None] = set()
        while True:
            row = await find()
            try:
                file, size = self.disk.reader(row["version"])
            except (FileNotFoundError, ValueError):
                if row["version"] in missing:  # somebody took the file away
                    message = "The resource was not found"
                    raise StorageError(404, "NoSuchKey", message, error="Not found") from None
                missing.add(row["version"])  # or it was replaced since the row was read
                continue
            return self._answer(request, row, file, size, expires)

    def _answer(
        self, request: Request, row: Row, file: BufferedReader, size: int, expires: int | None
    ) -> Response:
        stored: dict[str, Any] = row["metadata"] or {}
        mime_type = stored.get("mimetype", "application/octet-stream")
        headers = {
            "accept-ranges": "bytes",
            # As hosted: pages of users must not run as pages of this origin.
            "content-type": "text/plain" if "text/html" in mime_type else mime_type,
            "etag": stored.get("eTag", ""),
            "x-robots-tag": "none",
            "last-modified": format_datetime(row["updated_at"].astimezone(UTC), usegmt=True),
        }
        if expires is None:
            headers["cache-control"] = stored.get("cacheControl", "no-cache")
        else:
            headers["expires"] = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
        download = request.query_params.get("download")
        if download is not None:
            encoded = quote(download, safe="!*'()~")
            named = f" filename={encoded}; filename*=UTF-8''{encoded}" if download else ""
            headers["content-disposition"] = f"attachment;{named}"
        status, start, length = 200, 0, size
        try:
            if part := wanted(request.headers.get("range", ""), size):
                status, (start, length) = 206, part
                headers["content-range"] = f"bytes {start}-{start + length - 1}/{size}"
        except StorageError:
            file.close()
            raise
        headers["content-length"] = str(length)
        if request.method == "HEAD" or unchanged(request.headers, headers["etag"], row["updated_at"]):
            file.close()
            return Response(status_code=status if request.method == "HEAD" else 304, headers=headers)
        return StreamingResponse(self.disk.read(file, start, length), status, headers)

    # -- signed URLs -------------------------------------------------------------------------------

    def _token(self, scope: str, url: str, seconds: int, **more: Any) -> str:
        """What opens one path for one thing. It has no role, so it is nobody's access token."""
        now = int(time.time())
        claims = {**more, "url": url, "scope": scope, "iat": now, "exp": now + seconds}
        return jwt.encode(claims, self.keys.jwt_secret, algorithm="HS256")

    def _signed(self, bucket: str, name: str, seconds: int) -> str:
        token = self._token("download", f"{bucket}/{name}", seconds)
        return f"/object/sign/{bucket}/{name}?token={token}"  # not escaped: the clients do that

    def _signature(self, request: Request, scope: str) -> Claims:
        """The claims of the request's token, if it was signed for this path and this scope."""
        try:
            claims: Claims = jwt.decode(
                request.query_params.get("token", ""), self.keys.jwt_secret, algorithms=["HS256"],
                options={"require": ["exp"], "verify_aud": False},
            )  # fmt: skip
        except (jwt.PyJWTError, RecursionError) as error:
            raise invalid(str(error), "InvalidJWT") from error
        # Tokens from before there were scopes: only those for uploads say whether they replace.
        if claims.get("scope", SIGNED_SCOPES["upsert" in claims]) != scope:
            raise invalid(f"Token is not scoped for {scope}", "InvalidSignature")
        if claims.get("url") != "{bucket}/{name}".format(**request.path_params):
            raise invalid("Invalid signature", "InvalidSignature")
        return claims

    async def sign(self, request: Request) -> Response:
        """{expiresIn: seconds} -> {signedURL}, for an object that the caller sees."""
        claims, params = self._claims(request), await body.json_body(request)
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        seconds = body.integer(params, "expiresIn", 1)
        async with store.scope(self.pool, claims) as connection:
            if await store.find(connection, bucket, name) is None:
                raise no_such_key()
        return JSONResponse({"signedURL": self._signed(bucket, name, seconds)})

    async def sign_many(self, request: Request) -> Response:
        """{expiresIn, paths} -> [{path, signedURL, error}], an error for what the caller does not see."""
        claims, params = self._claims(request), await body.json_body(request)
        bucket, paths = request.path_params["bucket"], body.texts(params, "paths", MOST_PATHS)
        seconds = body.integer(params, "expiresIn", 1)
        seen = await store.visible(self.pool, claims, bucket, paths)
        missing = "Either the object does not exist or you do not have access to it"
        return JSONResponse(
            [
                {
                    "error": None if path in seen else missing,
                    "path": path,
                    "signedURL": self._signed(bucket, path, seconds) if path in seen else None,
                }
                for path in paths
            ]
        )


def replaces(request: Request) -> bool:
    """Whether an upload may replace what is there."""
    return request.headers.get("x-upsert", "").lower() == "true"


def announced(request: Request) -> Row:
    """What policies see of an upload before its bytes are there."""
    length = request.headers.get("content-length")
    return {
        "mimetype": request.headers.get("content-type"), "contentLength": int(length) if length else None,
    }  # fmt: skip


async def no_route(request: Request, _error: Exception) -> Response:
    """For what the real server has and this one has not, and for what nobody has."""
    path = request.url.path
    for beginning, what in ABSENT.items():
        if path.startswith(beginning):
            message = f"Route {request.method}:{path} not found: the local Storage has no {what}"
            return StorageError(404, "NotSupported", message, 404, error="Not Found").response()
    return StorageError(
        404, "NotFound", f"Route {request.method}:{path} not found", 404, error="Not Found"
    ).response()


def guarded(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Turn every error of an endpoint into an answer that clients understand."""

    @functools.wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except StorageError as error:
            return error.response()
        except ClientDisconnect:
            return Response(status_code=400)
        except UnicodeEncodeError:
            return invalid("The request holds a character that cannot be stored").response()
        except psycopg.Error as error:
            refusal = from_database(error)
            if refusal.status >= 500:
                log.error("%s %s: %s", request.method, request.url.path, str(error).strip())
            return refusal.response()
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            return StorageError(500, "InternalError", "Internal server error", 500).response()

    return answer
