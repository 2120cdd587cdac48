"""Errors as Supabase Storage answers them.

Its HTTP status is 400 for nearly all; the real one stands as text in the body, where the clients look.
"""

import psycopg
from psycopg import errors
from starlette.responses import JSONResponse


class StorageError(Exception):
    """A refusal: the status in the body, a word that programs compare, a sentence for people."""

    def __init__(self, status: int, error: str, message: str, http_status: int = 400) -> None:
        super().__init__(message)
        self.status, self.error, self.message, self.http_status = status, error, message, http_status

    def response(self) -> JSONResponse:
        """{"statusCode", "error", "message"}."""
        body = {"statusCode": str(self.status), "error": self.error, "message": self.message}
        return JSONResponse(body, self.http_status)


def invalid(message: str, error: str = "InvalidRequest") -> StorageError:
    """Something in the request is not as it must be."""
    return StorageError(400, error, message)


def access_denied(message: str) -> StorageError:
    """The token is not good, or its role may not."""
    return StorageError(403, "Unauthorized", message)


def no_such_bucket() -> StorageError:
    """There is none, or the caller may not see it."""
    return StorageError(404, "Bucket not found", "Bucket not found")


def no_such_key() -> StorageError:
    """There is no such object, or the caller may not see it."""
    return StorageError(404, "not_found", "Object not found")


def duplicate() -> StorageError:
    """The name is taken."""
    return StorageError(409, "Duplicate", "The resource already exists")


def too_large() -> StorageError:
    """More bytes than the bucket, or the server, takes in one object."""
    return StorageError(413, "Payload too large", "The object exceeded the maximum allowed size")


def invalid_mime_type(mime_type: str) -> StorageError:
    """The bucket does not take this type."""
    return StorageError(415, "invalid_mime_type", f"mime type {mime_type} is not supported")


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
            return duplicate()
        case errors.ForeignKeyViolation():
            return StorageError(404, "InvalidRequest", "The related resource does not exist")
        case errors.QueryCanceled():
            return StorageError(544, "DatabaseTimeout", "The connection to the database timed out", 544)
        case psycopg.DataError():
            return invalid(message)
    return StorageError(500, "DatabaseError", f"database error, code: {error.sqlstate}", 500)
