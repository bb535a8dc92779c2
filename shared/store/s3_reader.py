"""Ranged reads of one S3 object."""

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from shared.closing import Closing
from shared.errors import StoreUnavailable
from shared.store.s3_client import CONDITION_FAILED, MISSING, code_of, persistently, s3_faults

#: Bytes fetched at once where fewer are asked for: headers are read in pieces of 2880 bytes.
READ_AHEAD = 1 << 16


class ObjectAddress(NamedTuple):
    """Where an object is: for S3, and in words for people."""

    bucket: str
    key: str
    where: str


class _Piece(NamedTuple):
    offset: int
    data: bytes


class S3Reader(Closing):
    """One object's bytes by ranged GET, as `shared.store.base.ObjectReader`.

    All that is read is of the object that was opened, also where its key is given another one
    meanwhile: from its version where the bucket keeps versions, else the read is refused.

    Parameters
    ----------
    client : boto3 S3 client
    address : ObjectAddress
    attempts : int
        How often a read whose answer breaks off is tried.

    Raises
    ------
    KeyError
        If there is no such object; the caller puts in the key that its own caller knows.
    StoreUnavailable, EnvironmentFault
        As `shared.store.s3_client.fault_of` says.
    """

    def __init__(self, client: Any, address: ObjectAddress, attempts: int) -> None:
        self._client = client
        self._address = address
        self._attempts = attempts
        self._same: dict[str, str] = {}
        with s3_faults(address.where):
            self._size, self._piece = self._first()

    def _first(self) -> tuple[int, _Piece]:
        # One request tells the size and brings the first header.
        try:
            answer, data = self._ranged(0, READ_AHEAD)
        except ClientError as error:
            if code_of(error) in MISSING:
                raise KeyError(self._address.key) from None
            if code_of(error) not in {"InvalidRange", "416"}:
                raise
            # Nothing can be asked for of an empty object.
            answer, data = self._get(), b""
        self._same["IfMatch"] = answer["ETag"]
        if answer.get("VersionId", "null") != "null":
            self._same["VersionId"] = answer["VersionId"]
        told = str(answer.get("ContentRange", "")).rpartition("/")[2]
        size = int(told) if told.isdecimal() else int(answer["ContentLength"])
        return size, _Piece(0, data)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises
        ------
        ValueError
            If either is negative.
        StoreUnavailable
            If the object ends before that or was replaced meanwhile, or the store does not answer.
        """
        if offset < 0 or length < 0:
            raise ValueError(f"a range of {length} bytes from byte {offset} is none")
        if length == 0:
            return b""
        if offset + length > self._size:
            raise self._short(offset, length, max(self._size - offset, 0))
        piece = self._piece
        if not piece.offset <= offset <= offset + length <= piece.offset + len(piece.data):
            wanted = min(max(length, READ_AHEAD), self._size - offset)
            with s3_faults(self._address.where):
                piece = _Piece(offset, self._later(offset, wanted))
            if len(piece.data) < length:
                raise self._short(offset, length, len(piece.data))
            if length < READ_AHEAD:
                self._piece = piece
        start = offset - piece.offset
        return piece.data if len(piece.data) == length else piece.data[start : start + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes with what lies from `offset` on, by one GET; raises as `read` does."""
        buffer[:] = self.read(offset, len(buffer))

    def _later(self, offset: int, length: int) -> bytes:
        try:
            answer, data = self._ranged(offset, length)
        except ClientError as error:
            if code_of(error) in CONDITION_FAILED | MISSING | {"InvalidRange", "416"}:
                raise StoreUnavailable(
                    f"{self._address.where}: the object was replaced or removed while it was read; "
                    "read it anew"
                ) from error
            raise
        if "ContentRange" not in answer and offset > 0:
            raise StoreUnavailable(
                f"{self._address.where}: the whole object came where bytes from {offset} were asked for; "
                "this store has no ranged reads, use another one"
            )
        return data

    def _ranged(self, offset: int, length: int) -> tuple[dict[str, Any], bytes]:
        """Return S3's answer to a ranged GET, and its body; broken bodies are fetched again."""

        def fetch() -> tuple[dict[str, Any], bytes]:
            answer = self._get(Range=f"bytes={offset}-{offset + length - 1}")
            return answer, answer["Body"].read()

        return persistently(self._attempts, fetch)

    def _get(self, **more: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get_object(
            Bucket=self._address.bucket, Key=self._address.key, **self._same, **more
        )
        return answer

    def _short(self, offset: int, length: int, have: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._address.where}: {length} bytes were asked from byte {offset}, {have} came "
            f"(the object has {self._size}); if this stays so, remove its product and run again"
        )

    def close(self) -> None:
        """Let go of what was read ahead."""
        self._piece = _Piece(0, b"")
