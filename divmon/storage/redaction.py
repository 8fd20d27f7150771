"""Secrets that must not enter a run directory or a log: credentials in addresses, values of keys that hold secrets."""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Any

HIDDEN = "***"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@<>\x22\x27]+@")
_PARAMETER = re.compile(
    r"(?i)([?&](?:[a-z_-]*(?:key|token|secret|password|signature|credential)[a-z_-]*|sig|pwd|auth)=)[^&#\s<>\x22\x27]+"
)
_BEARER = re.compile(r"(?i)\b(bearer)\s+[a-z0-9._~+/=-]{8,}")
_SECRET_KEY = re.compile(
    r"(?i)(^|[_-])(api_?key|access_?key|private_?key|secret|password|passwd|credentials?|authorization|auth_?token|"
    r"access_?token|hf_token|token)$"
)
_SPECIAL = re.compile(r"(?i)(bos|eos|pad|unk|sep|cls|mask|image|audio)_token$")


def redacted(text: str) -> str:
    """The text without the credentials of addresses and of headers in it.

    >>> redacted("no answer from https://me:secret@host/v1?api_key=abc&n=1")
    'no answer from https://***@host/v1?api_key=***&n=1'
    """
    text = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", _PARAMETER.sub(rf"\1{HIDDEN}", text))


def without_secrets(value: Any) -> Any:
    """Plain data with each text redacted, and without the texts under keys such as "api_key"."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    if isinstance(value, dict):
        return {
            redacted(key): HIDDEN if isinstance(item, str) and is_secret(key) else without_secrets(item)
            for key, item in value.items()
        }
    return value


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret."""
    return bool(_SECRET_KEY.search(key)) and not _SPECIAL.search(key)


def fingerprints(value: Any) -> Any:
    """Plain data in which texts are recorded only by what tells whether they are others: numbers and switches stay."""
    if isinstance(value, dict):
        return {key: fingerprints(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprints(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else fingerprint(str(value))


def fingerprint(text: str) -> str:
    """Stands for a text that is recorded only to tell whether it is another one."""
    return f"text of {len(text)} characters, sha256 {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}"


class Redacting(logging.Filter):
    """Redacts what is logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if (shown := redacted(message)) != message:
            record.msg, record.args = shown, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return True


logging.getLogger("divmon").addFilter(Redacting())
