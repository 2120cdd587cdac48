"""Errors as Supabase Storage answers them.

Its HTTP status is 400 for nearly all; the real one stands as text in the body, where the clients look.
"""

import psycopg
from psycopg import errors
from starlette.responses import JSONResponse


class StorageError(Exception):
    """A refusal: the status in the body, a code that programs compare, a sentence for people.

    `error` is the word that stood for the code before there were codes, where it is another one.
    """

    def __init__(
        self, status: int, code: str, message: str, http_status: int = 400, *, error: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.http_status = status, code, message, http_status
        self.error = error or code

    def response(self) -> JSONResponse:
        """{"statusCode", "code", "error", "message"}."""
        body = {
            "statusCode": str(self.status), "code": self.code, "error": self.error, "message": self.message,
        }  # fmt: skip
        return JSONResponse(body, self.http_status)


def invalid(message: str, code: str = "InvalidRequest") -> StorageError:
    """Something in the request is not as it must be."""
    return StorageError(400, code, message)


def access_denied(message: str) -> StorageError:
    """The token is not good, or its role may not."""
    return StorageError(403, "AccessDenied", message, error="Unauthorized")


def no_such_bucket() -> StorageError:
    """There is none, or the caller may not see it."""
    return StorageError(404, "NoSuchBucket", "Bucket not found", error="Bucket not found")


def no_such_key() -> StorageError:
    """There is no such object, or the caller may not see it."""
    return StorageError(404, "NoSuchKey", "Object not found", error="not_found")


def duplicate(code: str) -> StorageError:
    """The name is taken."""
    return StorageError(409, code, "The resource already exists", error="Duplicate")


def too_large() -> StorageError:
    """More bytes than the bucket, or the server, takes in one object."""
    message = "The object exceeded the maximum allowed size"
    return StorageError(413, "EntityTooLarge", message, error="Payload too large")


def invalid_mime_type(mime_type: str) -> StorageError:
    """The bucket does not take this type."""
    message = f"mime type {mime_type[:200]} is not supported"
    return StorageError(415, "InvalidMimeType", message, error="invalid_mime_type")


def from_database(error: psycopg.Error) -> StorageError:
    """What the real server makes of a database error."""
    message = error.diag.message_primary or str(error)
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        message = (
            "The database is not reachable: `scripts/stack start` repairs it. A stack that was made before "
            "it had Storage needs `scripts/stack reset`."
        )
        return StorageError(503, "DatabaseError", message, 503)
    match error:
        case errors.InsufficientPrivilege():
            if "row-level security" in message:
                message = "new row violates row-level security policy"
            return access_denied(message)
        case errors.UniqueViolation():
            of_bucket = error.diag.table_name == "buckets"
            return duplicate("BucketAlreadyExists" if of_bucket else "KeyAlreadyExists")
        case errors.ForeignKeyViolation():
            return StorageError(404, "InvalidRequest", "The related resource does not exist")
        case errors.QueryCanceled():
            return StorageError(544, "DatabaseTimeout", "The connection to the database timed out", 544)
        case psycopg.DataError():
            return invalid(message)
    return StorageError(500, "DatabaseError", f"database error, code: {error.sqlstate}", 500)
