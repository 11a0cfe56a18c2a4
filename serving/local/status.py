"""Canonical status codes: how a request fails, the same over gRPC and REST."""

from __future__ import annotations

from typing import TypeAlias

import grpc

Code: TypeAlias = grpc.StatusCode

# TensorFlow's error codes are gRPC's by number.
CODE_BY_NUMBER: dict[int, Code] = {code.value[0]: code for code in Code}

# tensorflow_serving/model_servers/http_server.cc, `ToHTTPStatusCode`.
HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INTERNAL: 500,
    Code.DATA_LOSS: 500,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class StatusError(Exception):
    """A request that is answered by an error.

    Attributes:
      code: Canonical status code.
      message: What the client is told.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> StatusError:
    """The request is wrong whatever the state of the server."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> StatusError:
    """The request does not fit the state of the server."""
    return StatusError(Code.FAILED_PRECONDITION, message)


def not_found(message: str) -> StatusError:
    """What the request names is not there."""
    return StatusError(Code.NOT_FOUND, message)
