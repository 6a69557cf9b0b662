"""Files are found behind links, each folder once, and nothing that is no file."""

import os

from data.walk import files_below


def test_linked_folders_are_entered_once_and_a_link_back_ends(tmp_path):
    inside, elsewhere = tmp_path / "inside", tmp_path / "elsewhere"
    (inside / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    for file in (inside / "a", inside / "deep" / "b", elsewhere / "c"):
        file.write_text("x")
    (inside / "linked").symlink_to(elsewhere, target_is_directory=True)
    (inside / "again").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(inside, target_is_directory=True)
    assert sorted(file.name for file in files_below(inside)) == ["a", "b", "c"]


def test_a_pipe_and_a_broken_link_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert [file.name for file in files_below(tmp_path)] == ["file"]
