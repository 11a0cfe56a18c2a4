"""How a call to a model server fails, whichever way it was made."""

from __future__ import annotations

# Canonical code of an HTTP status that TF Serving answers with; 400 and 409 stand for several
# codes, of which the first is what a client can act on.
CODE_BY_HTTP_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ServingError(Exception):
    """A model server refused a request, or could not be reached.

    Attributes:
      code: Canonical status code, such as "INVALID_ARGUMENT" or "UNAVAILABLE".
      message: The server's words.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed when it is sent again."""
        if self.code == "RESOURCE_EXHAUSTED":
            return "larger than" not in self.message  # too large a request stays too large
        return self.code == "UNAVAILABLE"
