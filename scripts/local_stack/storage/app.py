"""The endpoints below /storage/v1."""

import asyncio
import functools
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
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
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..auth.errors import AuthError
from ..auth.tokens import Tokens
from ..keys import Keys
from . import body, names, store
from .disk import BLOCK, Disk, TooLargeError
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
        if not isinstance(params["public"], bool):
            raise invalid("body/public must be boolean")
        found["public"] = params["public"]
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
        raise StorageError(416, "InvalidRange", "The requested range is not satisfiable", 416)
    return start, end - start + 1


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
        return JSONResponse({"name": bucket_id})

    async def list_buckets(self, request: Request) -> Response:
        """All that the caller sees."""
        async with store.scope(self.pool, self._claims(request)) as connection:
            return JSONResponse([bucket_json(row) for row in await store.buckets(connection)])

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
            raise StorageError(409, "InvalidRequest", message) from error
        return JSONResponse({"message": "Successfully deleted"})

    async def empty_bucket(self, request: Request) -> Response:
        """Every object that the caller may delete."""
        bucket = request.path_params["bucket"]
        async with store.scope(self.pool, self._claims(request)) as connection:
            if await store.bucket(connection, bucket) is None:
                raise no_such_bucket()
            rows = await store.delete_all(connection, bucket)
        await self._forget(rows)
        return JSONResponse({"message": "Successfully emptied"})

    # -- writing objects ---------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """The bytes, as they are or in a form -> {Id, Key}. With x-upsert: true over what is there."""
        return await self._upload(request, upsert=request.headers.get("x-upsert", "").lower() == "true")

    async def update(self, request: Request) -> Response:
        """The same, over what is there."""
        return await self._upload(request, upsert=True)

    async def _upload(self, request: Request, *, upsert: bool) -> Response:
        claims = self._claims(request)
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        upload = await body.upload(request)
        settings = await self._settings(bucket)
        if settings is None:
            raise no_such_bucket()
        names.require_key(name)
        limit = min(self.limit, settings["file_size_limit"] or self.limit)
        names.require_mime_type(upload.mime_type, settings["allowed_mime_types"])
        length = int(request.headers.get("content-length") or sys.maxsize)
        if sys.maxsize > length > limit + body.MAX_FIELDS:
            raise too_large()
        if length > BLOCK:
            # Who may not write is refused before many bytes are taken.
            await store.try_to_save(self.pool, claims, bucket, name, upload.metadata, upsert=upsert)
        return await self._keep(claims, bucket, name, upload, limit, upsert=upsert)

    async def _keep(
        self, claims: Claims, bucket: str, name: str, upload: body.Upload, limit: int, *, upsert: bool
    ) -> Response:
        try:
            written = await self.disk.write(upload.chunks, limit)
        except TooLargeError:
            raise too_large() from None
        metadata = {
            "eTag": written.etag,
            "size": written.size,
            "mimetype": upload.mime_type,
            "cacheControl": upload.cache_control,
            "lastModified": instant(datetime.now(UTC)),
            "contentLength": written.size,
            "httpStatusCode": 200,
        }
        object_id = await self._replace(
            claims, bucket, name, written.version, metadata, upload.metadata, upsert=upsert
        )
        return JSONResponse({"Id": object_id, "Key": f"{bucket}/{name}"})

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
        """{bucketId, sourceKey, destinationKey, destinationBucket?}; x-upsert as for uploads."""
        claims, params = self._claims(request), await body.json_body(request)
        bucket, source, to_bucket, target = self._both(params)
        async with store.scope(self.pool, claims) as connection:
            original = await store.find(connection, bucket, source)
        if original is None:
            raise no_such_key()
        try:
            version = await self.disk.copy(original["version"])
        except FileNotFoundError:
            raise no_such_key() from None
        upsert = request.headers.get("x-upsert", "").lower() == "true"
        object_id = await self._replace(
            claims, to_bucket, target, version, original["metadata"], original["user_metadata"], upsert=upsert
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
        sort = params.get("sortBy") or {}
        if not isinstance(sort, dict) or sort.get("column", "name") not in store.SORTABLE:
            raise invalid(f"body/sortBy/column must be one of {', '.join(store.SORTABLE)}")
        if sort.get("order", "asc") not in ("asc", "desc"):
            raise invalid("body/sortBy/order must be asc or desc")
        async with store.scope(self.pool, claims) as connection:
            rows = await store.listing(
                connection, request.path_params["bucket"], body.text(params, "prefix"),
                body.text(params, "search", ""),
                limit=min(body.integer(params, "limit", 1, 100), BIGGEST_PAGE),
                offset=body.integer(params, "offset", 0, 0),
                column=sort.get("column", "name"), descending=sort.get("order") == "desc",
            )  # fmt: skip
        return JSONResponse([entry_json(row) for row in rows])

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
        try:
            claims = jwt.decode(
                request.query_params.get("token", ""), self.keys.jwt_secret, algorithms=["HS256"],
                options={"require": ["exp"], "verify_aud": False},
            )  # fmt: skip
        except (jwt.PyJWTError, RecursionError) as error:
            raise invalid(str(error), "InvalidJWT") from error
        if claims.get("url") != f"{bucket}/{name}":
            raise invalid("The url do not match the signature", "InvalidSignature")

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
                    raise StorageError(404, "Not found", "The resource was not found") from None
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
            "last-modified": format_datetime(row["updated_at"].astimezone(UTC), usegmt=True),
        }
        if expires is None:
            headers["cache-control"] = stored.get("cacheControl", "no-cache")
        else:
            headers["expires"] = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
        download = request.query_params.get("download")
        if download is not None:
            encoded = quote(download, safe="")
            named = f" filename={encoded}; filename*=UTF-8''{encoded};" if download else ""
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
        if request.method == "HEAD" or request.headers.get("if-none-match") == headers["etag"]:
            file.close()
            return Response(status_code=status if request.method == "HEAD" else 304, headers=headers)
        return StreamingResponse(self.disk.read(file, start, length), status, headers)

    # -- signed URLs -------------------------------------------------------------------------------

    def _signed(self, bucket: str, name: str, seconds: int) -> str:
        now = int(time.time())
        claims = {"url": f"{bucket}/{name}", "iat": now, "exp": now + seconds}
        # Not escaped: the clients do that.
        return f"/object/sign/{bucket}/{name}?token=" + jwt.encode(
            claims, self.keys.jwt_secret, algorithm="HS256"
        )

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


async def no_route(request: Request, _error: Exception) -> Response:
    """For what the real server has and this one has not, and for what nobody has."""
    message = f"Route {request.method}:{request.url.path} not found"
    return StorageError(404, "Not Found", message, 404).response()


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
