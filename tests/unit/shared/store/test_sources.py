"""Reading an exposure's file, and what its errors mean."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from shared.errors import BadInput, TransientError
from shared.store import ranged_file as files
from shared.store.sources import FileReader, sha256_of


def test_ranges_are_exact(tmp_path: Path) -> None:
    data = os.urandom(1000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    with FileReader(tmp_path / "a") as reader:
        assert reader.size == 1000
        assert reader.read(10, 900) == data[10:910]
        assert reader.read(1000, 0) == b""
        with pytest.raises(ValueError):
            reader.read(-1, 2)


def test_a_file_that_is_cut_while_it_is_read_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    with FileReader(tmp_path / "a") as reader:
        os.truncate(tmp_path / "a", 60)
        with pytest.raises(TransientError) as caught:
            reader.read(0, 100)
    assert caught.value.where == str(tmp_path / "a")


@pytest.mark.parametrize("read", [FileReader, sha256_of])
@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.mkdir(), os.mkfifo],
    ids=["nothing", "folder", "pipe"],
)
def test_what_is_no_file_is_a_bad_exposure_at_once(tmp_path: Path, read, make) -> None:
    make(tmp_path / "x.fits")
    with pytest.raises(BadInput) as caught:
        read(tmp_path / "x.fits")
    assert caught.value.check == "file"
    assert caught.value.where == str(tmp_path / "x.fits")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_fails_once_rejects_no_exposure(tmp_path: Path, monkeypatch, number) -> None:
    # Given a good file on a disk that fails
    (tmp_path / "x.fits").write_bytes(b"x")
    reader = FileReader(tmp_path / "x.fits")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    monkeypatch.setattr(files.os, "open", fail)
    monkeypatch.setattr(files.os, "pread", fail)
    # When it is read, Then the fault is one that may pass, and names the file
    for read in (
        lambda: sha256_of(tmp_path / "x.fits"),
        lambda: FileReader(tmp_path / "x.fits"),
        lambda: reader.read(0, 1),
    ):
        with pytest.raises(TransientError) as caught:
            read()
        assert caught.value.where == str(tmp_path / "x.fits")
