"""Read the body of a commit as it arrives: one JSON object in each line, with whole files in base64.

A line with a file can be gigabytes long, so no line is held in memory: the string after ``"content":`` is decoded into
the store as it arrives, and only the short rest of the line is parsed as JSON.
"""

import binascii
import json
import re
from collections.abc import Callable
from typing import Any

from lottapack_serve.blobs import Incoming
from lottapack_serve.commits import Add, Change, Delete, Link
from lottapack_serve.limits import LINE_BYTES, TITLE, Limits
from lottapack_serve.names import check_path, is_commit
from lottapack_serve.refusals import bad_request, too_large

_CONTENT = re.compile(rb'(?<!\\)"content"[ \t\r]*:[ \t\r]*\Z')
_SPECIAL = re.compile(rb'["\\]')
_TAIL = 64
"""The bytes at the end of a line that are searched for ``"content":``."""
_NOT_BASE64 = "The content of a file in a commit must be in base64, with nothing else in its string."


class CommitReader:
    """Reads a body: feed() its pieces, then call finish(); ``change`` contains the entries read so far.

    ``receive`` creates a file for a content. Every method raises RefusedError with status 400, 413 or 507. The owner of
    a reader calls discard() at the end, which keeps what a commit has used.
    """

    def __init__(self, receive: Callable[[], Incoming], limits: Limits) -> None:
        self.change = Change()
        self._receive = receive
        self._limits = limits
        self._line = bytearray()  # the line without its content
        self._in_string = self._escaped = False
        self._decoder: _Decoder | None = None
        self._begun: list[Incoming] = []
        self._content: Incoming | None = None  # the content of this line
        self._has_header = False
        self._bytes = 0  # the bytes of all contents

    def feed(self, piece: bytes) -> None:
        """Read the next bytes of the body."""
        at = 0
        while at < len(piece):
            if self._decoder is not None:
                at = self._feed_content(self._decoder, piece, at)
            elif self._in_string:
                at = self._feed_string(piece, at)
            else:
                at = self._feed_structure(piece, at)
            if len(self._line) > LINE_BYTES:
                raise too_large(f"A line of the commit is longer than {LINE_BYTES:,} bytes without its content.")

    def finish(self) -> Change:
        """End the body, and return the whole change."""
        if self._decoder is not None or self._in_string:
            raise bad_request("The commit ends in the middle of a line.")
        self._end_line()
        if not self._has_header:
            raise bad_request("The commit does not have a header.")
        return self.change

    def discard(self) -> None:
        """Delete all contents that no commit has used."""
        for incoming in self._begun:
            incoming.discard()

    def _feed_structure(self, piece: bytes, at: int) -> int:
        quote, end = piece.find(b'"', at), piece.find(b"\n", at)
        if quote < 0 and end < 0:
            self._line += piece[at:]
            return len(piece)
        if end < 0 or 0 <= quote < end:
            self._line += piece[at:quote]
            if _CONTENT.search(self._line[-_TAIL:]):
                self._begin_content()
            else:
                self._in_string = True
            self._line += b'"'
            return quote + 1
        self._line += piece[at:end]
        self._end_line()
        return end + 1

    def _feed_string(self, piece: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            self._line.append(piece[at])
            return at + 1
        special = _SPECIAL.search(piece, at)
        end = special.end() if special else len(piece)
        self._line += piece[at:end]
        if special:
            self._escaped = special.group() == b"\\"
            self._in_string = self._escaped
        return end

    def _begin_content(self) -> None:
        if self._content is not None:
            raise bad_request("A line of the commit has more than one content.")
        if len(self._begun) >= self._limits.commit_files:
            raise too_large(f"A commit can have {self._limits.commit_files:,} files.")
        self._content = self._receive()
        self._begun.append(self._content)
        self._decoder = _Decoder()

    def _feed_content(self, decoder: "_Decoder", piece: bytes, at: int) -> int:
        quote = piece.find(b'"', at)
        end = len(piece) if quote < 0 else quote
        assert self._content is not None
        decoded = decoder.decode(piece[at:end])
        self._bytes += len(decoded)
        if self._content.size + len(decoded) > self._limits.file_bytes:
            raise too_large(f"A file of a commit can have {self._limits.file_bytes:,} bytes.")
        if self._bytes > self._limits.commit_bytes:
            raise too_large(f"A commit can have {self._limits.commit_bytes:,} bytes.")
        self._content.write(decoded)
        if quote < 0:
            return end
        decoder.finish()
        self._decoder = None
        self._content.finish()
        self._line += b'"'
        return quote + 1

    def _end_line(self) -> None:
        line, content = bytes(self._line), self._content
        self._line, self._content = bytearray(), None
        if not line.strip():
            return
        try:
            record = json.loads(line)
            key, value = record["key"], record["value"]
            if (content is not None) != (key == "file"):
                raise bad_request('In a commit, only the key "file" has a "content", and it must have one.')
            self._take(key, value, content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise bad_request(f"A line of the commit is invalid: {type(fault).__name__}: {fault}") from fault

    def _take(self, key: str, value: dict[str, Any], content: Incoming | None) -> None:
        operations = self.change.operations
        if key == "header":
            self._take_header(value)
        elif len(operations) >= self._limits.commit_files:
            raise too_large(f"A commit can have {self._limits.commit_files:,} changes.")
        elif content is not None:
            if value.get("encoding") != "base64" or value["content"] != "":
                raise bad_request(_NOT_BASE64)
            operations.append(Add(check_path(value["path"]), content))
        elif key == "lfsFile":
            operations.append(Link(check_path(value["path"]), str(value["oid"])))
        elif key in ("deletedFile", "deletedFolder"):
            path = value["path"]
            is_folder = key == "deletedFolder" or path.endswith("/")
            operations.append(Delete(check_path(path.rstrip("/")), is_folder))
        else:
            raise bad_request(f"This registry does not support the change {str(key)[:100]!r} in a commit.")

    def _take_header(self, value: dict[str, Any]) -> None:
        if self._has_header:
            raise bad_request("The commit has more than one header.")
        self._has_header = True
        title, message, parent = value["summary"], value.get("description") or "", value.get("parentCommit")
        if not isinstance(title, str) or not title.strip() or not isinstance(message, str):
            raise bad_request("A commit needs a summary, and its description must be text.")
        if len(title) > TITLE:
            raise bad_request(f"A commit's summary can have {TITLE:,} characters. Put the rest in its description.")
        try:
            f"{title}{message}".encode()
        except UnicodeEncodeError as fault:
            raise bad_request("The commit's message is not valid Unicode.") from fault
        if parent is not None and not (isinstance(parent, str) and is_commit(parent)):
            raise bad_request(f"{str(parent)[:100]!r} is not the id of a commit, which has 40 hex digits.")
        self.change.title, self.change.message, self.change.parent = title, message, parent


class _Decoder:
    """Decodes base64 in pieces, strictly: only its alphabet, and padding only at the very end."""

    def __init__(self) -> None:
        self._rest = b""
        self._padded = False

    def decode(self, piece: bytes) -> bytes:
        """Return the bytes of a piece, as far as it has complete groups of four."""
        if b"\\" in piece or self._rest.endswith(b"\\"):
            # JSON allows escaping the slash, and some clients do it.
            piece, self._rest = (self._rest + piece).replace(b"\\/", b"/"), b""
        whole = (len(self._rest) + len(piece)) // 4 * 4 - len(self._rest)
        if whole <= 0:
            self._rest += piece
            return b""
        group, self._rest = self._rest + piece[:whole], piece[whole:]
        if group.endswith(b"\\"):  # half of an escape, so the group is not complete
            group, self._rest = group[:-4], group[-4:] + self._rest
        if not group:
            return b""
        if self._padded:
            raise bad_request(_NOT_BASE64)
        self._padded = group.endswith(b"=")
        try:
            return binascii.a2b_base64(group, strict_mode=True)
        except binascii.Error as fault:
            raise bad_request(_NOT_BASE64) from fault

    def finish(self) -> None:
        """End the string."""
        if self._rest:
            raise bad_request(_NOT_BASE64)
