"""Which items of a batch are refused, found by halving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Refusal = TypeVar("Refusal")


class Bisection(Generic[Item, Answer, Refusal]):
    """Asks for a batch, and for its halves where it is refused as a whole.

    It does no input or output, so that the synchronous and the asynchronous client and the model in
    the process share it.

    >>> search = Bisection(["a", "bad", "c"])
    >>> while search.batch:
    ...     if "bad" in search.batch:
    ...         search.refuse("it is bad")
    ...     else:
    ...         search.answer([item.upper() for item in search.batch])
    >>> search.results
    ['A', 'it is bad', 'C']
    """

    def __init__(self, items: Sequence[Item]) -> None:
        """Starts with all items in one batch.

        Args:
          items: Items to ask for.
        """
        # The batches left, the next one last.
        self._left: list[Sequence[Item]] = [items] if len(items) else []
        self.results: list[Answer | Refusal] = []

    @property
    def batch(self) -> Sequence[Item]:
        """The next batch to ask for; empty at the end."""
        return self._left[-1] if self._left else ()

    def answer(self, answers: Sequence[Answer]) -> None:
        """Takes the answers to the batch, one for each of its items."""
        self._left.pop()
        self.results += answers

    def refuse(self, refusal: Refusal) -> None:
        """Halves the batch; where it is a single item, the refusal is its result."""
        batch = self._left.pop()
        if len(batch) == 1:
            self.results.append(refusal)
            return
        middle = len(batch) // 2
        self._left += [batch[middle:], batch[:middle]]
