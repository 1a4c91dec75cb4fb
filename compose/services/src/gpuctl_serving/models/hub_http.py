"""HTTP for the hub: the environment's proxies and certificates, redirects, a token that stays at home."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

_MOST_REDIRECTS = 10
_AGENT = "gpuctl"
#: Seconds without a byte after which a connection counts as dropped.
_SILENCE_SECONDS = 60.0


class HubAnswer(Exception):
    """The hub answered with something else than the file: the status and what it said."""

    def __init__(self, status: int, code: str, retry_after: float | None) -> None:
        super().__init__(f"HTTP {status}" + (f" ({code})" if code else ""))
        self.status = status
        #: `X-Error-Code`: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo.
        self.code = code
        self.retry_after = retry_after


class HubUnreachable(Exception):
    """The connection failed, was refused, or dropped."""


@dataclass(frozen=True)
class Opened:
    """An open answer. `linked` are the headers of the hub itself, before it redirected to where files lie."""

    status: int
    headers: Message
    linked: Message
    #: An http.client.HTTPResponse.
    body: Any


class HubHttp:
    """Requests to one hub.

    HTTP(S)_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR mean what they mean everywhere; so do
    REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE. The token is sent to the hub's own host, never to where it
    redirects.
    """

    def __init__(self, endpoint: str, token: str | None, env: Mapping[str, str] = os.environ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._timeout = _seconds(env.get("HF_HUB_DOWNLOAD_TIMEOUT")) or _SILENCE_SECONDS
        handlers = [_NoRedirects(), urllib.request.HTTPSHandler(context=_certificates(env))]
        self._opener = urllib.request.build_opener(*handlers)

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Opened:
        """GETs `url`, following redirects. Raises HubAnswer for a refusal and HubUnreachable."""
        home, linked = urlsplit(self.endpoint), None
        for _ in range(_MOST_REDIRECTS):
            sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **(headers or {})}
            here = urlsplit(url)
            if self._token and (here.scheme, here.netloc) == (home.scheme, home.netloc):
                sent["Authorization"] = f"Bearer {self._token}"
            answer = self._once(url, sent)
            linked = linked if linked is not None else answer.headers
            if answer.status not in {301, 302, 303, 307, 308}:
                return Opened(answer.status, answer.headers, linked, answer)
            answer.close()
            url = _next(url, answer.headers.get("Location"))
        raise HubUnreachable(f"{self.endpoint} redirects without an end")

    def _once(self, url: str, headers: Mapping[str, str]) -> Any:
        # The scheme was checked: nothing of this machine can be read through a URL.
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
        try:
            return self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as answer:
            if answer.code in {301, 302, 303, 307, 308}:
                return answer
            with answer:
                code = answer.headers.get("X-Error-Code", "")
                raise HubAnswer(answer.code, code, _seconds(answer.headers.get("Retry-After"))) from None
        except (urllib.error.URLError, OSError, EOFError) as failure:
            reason = getattr(failure, "reason", failure)
            raise HubUnreachable(f"{urlsplit(url).netloc}: {reason}") from failure


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are followed above, where the token can be left out."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _next(url: str, location: str | None) -> str:
    if not location:
        raise HubUnreachable(f"{urlsplit(url).netloc} redirects to nowhere")
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme not in {"http", "https"} or (urlsplit(url).scheme == "https" and scheme != "https"):
        raise HubUnreachable(f"{urlsplit(url).netloc} redirects to {scheme}:, which is not as safe")
    return target


def _certificates(env: Mapping[str, str]) -> ssl.SSLContext:
    # SSL_CERT_FILE and SSL_CERT_DIR are OpenSSL's own; the others are those of Python's HTTP libraries.
    context = ssl.create_default_context()
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if bundle := env.get(name):
            path = Path(bundle)
            context.load_verify_locations(*((None, path) if path.is_dir() else (path, None)))
            break
    return context


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
