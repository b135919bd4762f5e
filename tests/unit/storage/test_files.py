import os

import pytest

from errors import RunError
from storage.files import write_atomically


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a", os.path.join(tmp_path, "a")):
        for data in (b"long enough", b"short"):
            write_atomically(path, data)
            assert (tmp_path / "a").read_bytes() == data
    assert os.listdir(tmp_path) == ["a"]


def test_what_cannot_be_written_is_a_failure_and_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a.tmp").mkdir()
    with pytest.raises(RunError, match=r"cannot write .*a \(3 bytes\): Is a directory; [\d,]+ bytes are free"):
        write_atomically(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
