import json
import os
from contextlib import ExitStack

import pytest

from errors import RunError, UsageError
from storage.files import check_writable, json_bytes, reserved_name, write_atomically


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


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*new/a \(3 bytes\): No such file or directory; [\d,]+ bytes"):
        write_atomically(str(tmp_path / "new" / "a"), b"new")


def test_a_folder_is_created_and_left_empty(tmp_path):
    check_writable(str(tmp_path / "new" / "folder" / "a.json"))
    assert os.listdir(tmp_path / "new" / "folder") == []


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.json", "/proc/self/a.json"):
        with pytest.raises(UsageError, match="cannot write .*a.json: "):
            check_writable(str(path))


def test_json_holds_finite_numbers_only():
    assert json.loads(json_bytes({"a": [1.5, None]})) == {"a": [1.5, None]}
    with pytest.raises(RunError, match="not finite"):
        json_bytes({"a": [float("nan")]})


def test_a_reserved_name_is_not_free_again(tmp_path):
    name = str(tmp_path / "a")
    (tmp_path / "a-2.png").write_text("")
    with ExitStack() as stack:
        names = [stack.enter_context(reserved_name(name, [".json", ".png"])) for _ in range(3)]
        assert names == [name, f"{name}-3", f"{name}-4"]
        assert sorted(os.listdir(tmp_path)) == ["a-2.png", "a-3.json", "a-4.json", "a.json"]
        (tmp_path / "a-3.json").write_text("{}")
    assert sorted(os.listdir(tmp_path)) == ["a-2.png", "a-3.json"]  # the names without content are free again


def test_two_processes_reserve_two_names(tmp_path, monkeypatch):
    """The second one takes the name after the first has found it free."""
    name, exists = str(tmp_path / "a"), os.path.lexists

    def slowly(path):
        found = exists(path)
        monkeypatch.setattr(os.path, "lexists", exists)
        assert stack.enter_context(reserved_name(name, [".json"])) == name
        return found

    with ExitStack() as stack:
        monkeypatch.setattr(os.path, "lexists", slowly)
        assert stack.enter_context(reserved_name(name, [".json"])) == f"{name}-2"
