"""Tables with URLs, against a server on this machine that does what servers do wrong."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from tests.ingestion import datasets
from tests.ingestion.outcome import run
from tfx_captioner.ingestion import downloads
from tfx_captioner.pipeline.cli import main

LOCAL = {"private_addresses": True, "download_seconds": 1}
SPLITS = ("train", "val", "test")


def picture(name: str) -> bytes:
    pattern = Image.frombytes("RGB", (5, 4), datasets.random.Random(name).randbytes(60))
    return datasets.encoded(pattern.resize((50, 40)), "JPEG")


class Server(http.server.BaseHTTPRequestHandler):
    """`/good/NAME` has a picture; every other folder is something that goes wrong."""

    asked: ClassVar[Counter[str]] = Counter()
    mended: ClassVar[bool] = False
    stopped: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        Server.asked[self.path] += 1
        kind = self.path.split("/")[1]
        getattr(self, f"send_{kind.replace('-', '_')}")()

    def answer(self, body: bytes, status: int = 200, **headers: Any) -> None:
        self.send_response(status)
        for name, text in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(text))
        self.end_headers()
        self.wfile.write(body)

    def send_good(self) -> None:
        self.answer(picture(self.path))

    def send_gone(self) -> None:
        self.answer(b"no such picture", 404)

    def send_busy(self) -> None:
        if self.mended:
            self.answer(picture(self.path))
        else:
            self.answer(b"later", 503)

    def send_shaky(self) -> None:
        """Fails twice, then answers."""
        if Server.asked[self.path] < 3:
            self.answer(b"later", 500)
        else:
            self.answer(picture(self.path))

    def send_silent(self) -> None:
        self.stopped.wait(20)

    def send_slow(self) -> None:
        """A byte now and then, so that no single read takes long."""
        self.answer(b"", Content_Length=10_000)
        while not self.stopped.wait(0.1):
            self.wfile.write(b"x")

    def send_slow_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.stopped.wait(0.1):
            self.wfile.write(b"X-More: more\r\n")

    def send_large(self) -> None:
        self.answer(b"", Content_Length=1_000_001)

    def send_endless(self) -> None:
        """Says no length."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while not self.stopped.is_set():
            self.wfile.write(b"x" * 100_000)

    def send_short(self) -> None:
        self.answer(b"too few", Content_Length=1000)

    def send_loop(self) -> None:
        self.answer(b"", 302, Location=self.path)

    def send_moved(self) -> None:
        self.answer(b"", 302, Location="/good/moved.jpg")

    def send_file(self) -> None:
        self.answer(b"", 302, Location="file:///etc/passwd")

    def send_html(self) -> None:
        self.answer(b"<html>Please log in</html>", Content_Type="image/jpeg")

    def send_bomb(self) -> None:
        self.answer(b"\x1f\x8b\x08" + b"\0" * 100, Content_Encoding="gzip")

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # where the client went away
            super().handle()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server, an empty cache, and no pauses between tries."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(Server, "asked", Counter())
    monkeypatch.setattr(Server, "stopped", threading.Event())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        Server.stopped.set()
        running.shutdown()


def table(tmp_path: Path, urls: list[str]) -> Path:
    """A table with a caption of each URL, and a good picture in each split besides."""
    source = tmp_path / "photos"
    names = [f"{split}.jpg" for split in SPLITS]
    datasets.write_images(source, names)
    rows = [f"{name},A file,{split}" for name, split in zip(names, SPLITS, strict=True)]
    rows += [f'"{url}",Of a URL,train' for url in urls]
    (source / "photos.csv").write_text("image,caption,split\n" + "\n".join(rows) + "\n")
    return source


def test_pictures_are_fetched_once_and_kept(server: str, tmp_path: Path) -> None:
    urls = [f"{server}/good/{number}.jpg" for number in range(20)]
    source = table(tmp_path, [*urls, urls[0]])  # the last one is a second caption, said twice
    outcome = run(source, **LOCAL)
    assert outcome.info.format == "table"
    assert outcome.captions.keys() == {*urls, "train.jpg", "val.jpg", "test.jpg"}
    assert outcome.encoded[urls[3]] == picture("/good/3.jpg")
    assert outcome.info.rejected == {"caption_repeated": 1}
    assert Server.asked == Counter(f"/good/{number}.jpg" for number in range(20))
    # A table that grew asks for what is new; the same table asks for nothing.
    more = f"{server}/good/more.jpg"
    assert more in run(table(tmp_path, [*urls, more]), **LOCAL).captions
    run(source, **LOCAL)
    assert Server.asked.total() == 21


@pytest.mark.parametrize(
    ("path", "reason", "detail", "times"),
    [
        ("/gone/1.jpg", "image_url_refused", "the answer is 404 Not Found", 1),
        ("/busy/1.jpg", "image_not_fetched", "the answer is 503 Service Unavailable, 3 times", 3),
        ("/silent/1.jpg", "image_not_fetched", "no whole answer within 1 s, 3 times", 3),
        ("/slow/1.jpg", "image_not_fetched", "no whole answer within 1 s, 3 times", 3),
        ("/slow-head/1.jpg", "image_not_fetched", "3 times", 3),
        ("/large/1.jpg", "image_too_large", "1000001 bytes or more; the limit is 1000000", 1),
        ("/endless/1.jpg", "image_too_large", "bytes or more; the limit is 1000000", 1),
        ("/short/1.jpg", "image_not_fetched", "3 times", 3),
        ("/loop/1.jpg", "image_url_refused", "TooManyRedirects", 5),
        ("/file/1.jpg", "image_url_refused", "file:///etc/passwd", 1),
        ("/html/1.jpg", "image_unreadable", "not one of JPEG", 1),
        ("/bomb/1.jpg", "image_unreadable", "not one of JPEG", 1),
    ],
)
def test_what_goes_wrong_is_set_aside(
    server: str, tmp_path: Path, path: str, reason: str, detail: str, times: int
) -> None:
    url = server + path
    outcome = run(table(tmp_path, [url]), max_download_megabytes=1, **LOCAL)
    ((found, what, why),) = outcome.rejected
    assert (found, what) == (reason, url)
    assert detail in why
    assert Server.asked[path] == times
    assert outcome.info.rejected == {reason: 1}
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", ["/shaky/1.jpg", "/moved/1.jpg"])
def test_what_passes_is_waited_for(server: str, tmp_path: Path, path: str) -> None:
    outcome = run(table(tmp_path, [server + path]), **LOCAL)
    assert server + path in outcome.captions
    assert outcome.rejected == []


def test_what_was_not_fetched_is_tried_again(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"{server}/busy/1.jpg", f"{server}/good/1.jpg"]
    source = table(tmp_path, urls)
    assert run(source, **LOCAL).info.rejected == {"image_not_fetched": 1}
    monkeypatch.setattr(Server, "mended", True)
    assert run(source, **LOCAL).captions.keys() >= {*urls}
    assert Server.asked["/good/1.jpg"] == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
def test_the_local_network_is_not_asked(server: str, tmp_path: Path, name: str) -> None:
    url = f"{server.replace('127.0.0.1', name)}/good/1.jpg"
    ((reason, _, _),) = run(table(tmp_path, [url]), download_seconds=1).rejected
    assert reason == "image_url_refused"
    assert Server.asked.total() == 0


def test_a_redirect_into_the_local_network_is_not_followed(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server counts as public, and sends to one that does not."""
    public = downloads.ipaddress.ip_address

    class Address:
        def __init__(self, host: str) -> None:
            self.is_global = public(host).is_global or host == "127.0.0.1"

    monkeypatch.setattr(downloads.ipaddress, "ip_address", Address)
    with socket.create_server(("127.0.0.2", 0)) as inner:
        inner.settimeout(0.1)
        location = f"http://127.0.0.2:{inner.getsockname()[1]}/secret.jpg"
        monkeypatch.setattr(
            Server, "send_moved", lambda self: self.answer(b"", 302, Location=location)
        )
        ((reason, _, detail),) = run(table(tmp_path, [f"{server}/moved/1.jpg"])).rejected
        assert reason == "image_url_refused"
        assert "127.0.0.2 is no public address; `private_addresses` allows" in detail
        with pytest.raises(TimeoutError):
            inner.accept()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.invalid/1.jpg", "name_refused"),
        ("file:///etc/passwd", "name_refused"),
        ("http://", "image_url_refused"),
        ("http://[::1/1.jpg", "image_url_refused"),
        ("http://exa mple/1.jpg", "image_not_fetched"),
        ("http://a:99999999/1.jpg", "image_url_refused"),
        ("http://" + "a" * 300 + "/1.jpg", ""),
        ("http://127.0.0.1:9/1.jpg", "image_url_refused"),
    ],
)
def test_urls_that_are_none(server: str, tmp_path: Path, url: str, reason: str) -> None:
    ((found, what, _),) = run(table(tmp_path, [url]), download_seconds=1).rejected
    assert what == url
    assert found == (reason or found)


def test_too_many_that_fail_stop_the_ingestion(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    urls = [f"{server}/gone/{number}.jpg" for number in range(3)]
    arguments = ["ingest", str(table(tmp_path, urls)), str(tmp_path / "out")]
    assert main([*arguments, "--private-addresses", "--download-seconds", "2"]) != 0
    said = capfd.readouterr().err
    assert "3 of 6 images had to be set aside" in said
    assert f"image_url_refused: {urls[0]}" in said
