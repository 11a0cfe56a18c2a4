"""Pictures that a table names by URL: fetched into a cache, within bounds.

A table may be somebody else's, so its URLs are not trusted: only http and https are followed, also
by redirects, and, unless it is allowed, to no address of the local network, whatever name it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfx_captioner.caches import cache_folder
from tfx_captioner.ingestion.pictures import UnusablePictureError
from tfx_captioner.ingestion.reasons import Reason
from tfx_captioner.progress import ProgressLog

_log = logging.getLogger("captioner.ingestion")

_PARALLEL = 8  # downloads at the same time, of a worker
_TRIES, _FIRST_PAUSE = 3, 1.0  # seconds, doubled after each try
_REDIRECTS = 5
_MAY_PASS = (408, 425, 429)  # and all from 500
_BLOCK = 1 << 16
# Addresses that were refused while a URL was fetched: aiohttp's own errors do not tell them.
_refused_addresses: ContextVar[list[str]] = ContextVar("refused_addresses")


@dataclass(frozen=True)
class DownloadLimits:
    """Bounds of a download.

    Attributes:
      max_bytes: Size of a file.
      seconds: Time of one try, from the first name that is looked up to the last byte.
      private_addresses: Whether addresses of the local network are allowed.
    """

    max_bytes: int
    seconds: float
    private_addresses: bool


def fetch(urls: Sequence[str], limits: DownloadLimits) -> dict[str, UnusablePictureError]:
    """Fetches what is not in the cache yet, several at a time; each has three tries.

    Args:
      urls: What to fetch; duplicates are fetched once.
      limits: Bounds of each download.

    Returns:
      Why a picture could not be had, by URL.
    """
    missing = [url for url in dict.fromkeys(urls) if not _cached(url).is_file()]
    if not missing:
        return {}
    # A thread of its own, since a notebook's has an event loop already.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _fetch_all(missing, limits)).result()


def read_fetched(url: str) -> bytes:
    """Content of a picture that was fetched."""
    return _cached(url).read_bytes()


def forget(url: str) -> None:
    """Takes a file out of the cache, for the next ingestion to fetch it anew."""
    _cached(url).unlink(missing_ok=True)


def _cached(url: str) -> Path:
    digest = hashlib.sha256(url.encode()).hexdigest()
    return cache_folder("pictures") / digest[:2] / digest


async def _fetch_all(
    urls: Sequence[str], limits: DownloadLimits
) -> dict[str, UnusablePictureError]:
    import aiohttp

    failed: dict[str, UnusablePictureError] = {}
    progress = ProgressLog(_log, "pictures from URLs", "fetched", len(urls))
    pending = iter(urls)

    async def work(session: aiohttp.ClientSession) -> None:
        for url in pending:  # shared by all workers
            try:
                await _fetch_one(session, url, limits)
            except UnusablePictureError as error:
                failed[url] = error
            progress.add(1)

    def new_socket(address: Any) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        if not limits.private_addresses and not ipaddress.ip_address(host).is_global:
            _refused_addresses.get().append(host)
            raise PermissionError(host)
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(limit=_PARALLEL, socket_factory=new_socket)
    headers = {"User-Agent": "tfx-captioner", "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        auto_decompress=False,  # pictures are compressed already, and a bomb stays small
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=limits.seconds),
    ) as session:
        await asyncio.gather(*(work(session) for _ in range(_PARALLEL)))
    progress.done()
    return failed


async def _fetch_one(session: Any, url: str, limits: DownloadLimits) -> None:
    """Fetches a picture into the cache; raises UnusablePictureError where that cannot be done."""
    import aiohttp

    refused = Reason.IMAGE_URL_REFUSED
    detail, refused_addresses = "", list[str]()
    _refused_addresses.set(refused_addresses)
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(_FIRST_PAUSE * 2 ** (number - 1))
        try:
            await _download(session, url, limits)
            return
        except (
            aiohttp.InvalidUrlClientError,
            aiohttp.NonHttpUrlClientError,
            aiohttp.RedirectClientError,
            aiohttp.TooManyRedirects,
            UnicodeError,
        ) as error:
            what = type(error).__name__
            raise UnusablePictureError(refused, f"{what}: {_short(error)}") from error
        except aiohttp.ClientResponseError as error:
            detail = f"the answer is {error.status} {' '.join(error.message.split())}"
            if error.status < 500 and error.status not in _MAY_PASS:
                raise UnusablePictureError(refused, detail) from error
        except TimeoutError:
            detail = f"no whole answer within {limits.seconds:g} s"
        except asyncio.TimeoutError:  # another class before Python 3.11
            detail = f"no whole answer within {limits.seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            detail = _short(error)
            if refused_addresses:
                detail = (
                    f"{refused_addresses[-1]} is no public address; `private_addresses` allows "
                    "those of the local network"
                )
                raise UnusablePictureError(refused, detail) from error
    raise UnusablePictureError(Reason.IMAGE_NOT_FETCHED, f"{detail}, {_TRIES} times")


async def _download(session: Any, url: str, limits: DownloadLimits) -> None:
    target = _cached(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    async with session.get(url, max_redirects=_REDIRECTS, raise_for_status=True) as response:
        _check_size(response.content_length or 0, limits)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as partial:
            try:
                size = 0
                async for block in response.content.iter_chunked(_BLOCK):
                    size += len(block)
                    _check_size(size, limits)
                    partial.write(block)
                partial.close()
                Path(partial.name).replace(target)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(partial.name).unlink()
                raise


def _check_size(size: int, limits: DownloadLimits) -> None:
    if size > limits.max_bytes:
        raise UnusablePictureError(
            Reason.IMAGE_TOO_LARGE, f"{size} bytes or more; the limit is {limits.max_bytes}"
        )


def _short(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
