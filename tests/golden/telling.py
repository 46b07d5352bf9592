"""Responses as flat mappings for golden values, and digests of other data."""

import hashlib
import io
import json
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Asker", "digest", "flat", "pixels"]

SCALAR = (str, int, float, type(None))


def digest(content: bytes) -> str:
    """A short checksum."""
    return hashlib.sha256(content).hexdigest()[:16]


def pixels(content: bytes | Path) -> np.ndarray:
    """Pixels of an image, independent of its encoding."""
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
        return np.asarray(picture.convert("RGB"))


def flat(name: str, value: Any) -> dict[str, Any]:
    """Numbers and texts of JSON by path; a list of objects as one list per field."""
    if isinstance(value, Mapping):
        return {key: one for part, some in value.items() for key, one in flat(f"{name}/{part}", some).items()} if value else {name: "{}"}
    if isinstance(value, list | tuple):
        if all(isinstance(one, SCALAR) for one in value) or _nested(value):
            return {name: list(value)}
        if all(isinstance(one, Mapping) and set(one) == set(value[0]) for one in value):
            return {key: one for part in value[0] for key, one in flat(f"{name}[]/{part}", [row[part] for row in value]).items()}
        return {key: one for place, some in enumerate(value) for key, one in flat(f"{name}[{place}]", some).items()}
    return {name: value}


def _nested(value: Any) -> bool:
    return isinstance(value, SCALAR) or (isinstance(value, list | tuple) and all(_nested(one) for one in value))


class Asker:
    """A client with the token of the explorer's server."""

    def __init__(self, address: str) -> None:
        self.host, _, rest = address.removeprefix("http://").partition("/")
        self.cookie = ""
        _, headers, _ = self.ask("GET", f"/{rest}")
        self.cookie = headers["set-cookie"].split(";")[0]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of a response."""
        connection = HTTPConnection(self.host, timeout=60)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, content, {"cookie": self.cookie} if self.cookie else {})
        answer = connection.getresponse()
        read = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, read

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The content of a response, and its status if not successful."""
        status, _, read = self.ask(method, path, body)
        return json.loads(read) if status < 300 else {"status": status, **json.loads(read)}
