"""Errors that a request gets instead of an answer: their types, HTTP statuses and shape."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

ErrorType = Literal[
    "Empty", "Validation", "Tokenizer", "Backend", "Overloaded", "Unhealthy", "Timeout", "Unauthorized", "Unsure"
]
STATUS: dict[ErrorType, int] = {
    "Empty": 400, "Validation": 422, "Tokenizer": 422, "Backend": 424, "Overloaded": 429, "Unhealthy": 503,
    "Timeout": 504, "Unauthorized": 401, "Unsure": 409,  # the last three are not text-embeddings-inference's
}  # fmt: skip
NO_KEY = "this server asks for an API key: send `Authorization: Bearer KEY`"


class ServeError(Exception):
    """A request that gets an error instead of an answer.

    Args:
        error_type: decides the status, see STATUS.
        message: for the person who sent the request.
        status: in place of the type's own, for errors of HTTP itself such as 413.
        retry_after: seconds after which another attempt makes sense.
    """

    def __init__(
        self, error_type: ErrorType, message: str, *, status: int | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.error_type, self.message = error_type, message
        self.status = status or STATUS[error_type]
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: str = Field(description="What was wrong, in words.")
    error_type: ErrorType
