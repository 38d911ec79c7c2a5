"""Reports replace what segxai wrote, and nothing of anybody else's."""

import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from segxai.errors import SegxaiError
from segxai.report.output_files import LIST, ExportFolder, check_picture
from segxai.report.sheet import save_figure
from tests.report.test_figures import items, overview

FOREIGN = "was not written by segxai, or has changed since: move it away, name another place"


def write(text, *, name="a.txt", overwrite=False):
    with ExportFolder(Path(), overwrite).writing(name) as draft:
        draft.write_text(text)


def test_a_file_that_was_exported_is_replaced(folder):
    write("one")
    write("another", name="b.txt")
    write("two")
    assert Path("a.txt").read_text() == "two"
    assert sorted(os.listdir()) == [LIST, "a.txt", "b.txt"]
    assert os.system(f"sha256sum --quiet --check {LIST}") == 0


def test_a_file_of_the_users_is_not_replaced_without_being_asked(folder):
    Path("a.txt").write_text("the user's")
    with pytest.raises(SegxaiError, match=f"^a.txt {FOREIGN}"):
        write("one")
    assert Path("a.txt").read_text() == "the user's"
    write("one", overwrite=True)
    assert Path("a.txt").read_text() == "one"


def test_a_file_that_the_user_corrected_is_not_replaced(folder):
    write("one")
    Path("a.txt").write_text("one, corrected by hand")
    with pytest.raises(SegxaiError, match=f"^a.txt {FOREIGN}"):
        write("two")


def test_an_empty_file_holds_nothing_to_lose(folder):
    Path("a.txt").touch()
    write("one")
    assert Path("a.txt").read_text() == "one"


@pytest.mark.parametrize("target", ["secret", "nowhere"])
def test_a_symbolic_link_is_not_followed(folder, target):
    Path("secret").write_text("secret")
    Path("a.txt").symlink_to(target)
    with pytest.raises(SegxaiError, match="^a.txt is a symbolic link"):
        write("one")
    write("one", overwrite=True)
    assert not Path("a.txt").is_symlink()
    assert Path("secret").read_text() == "secret"
    assert not Path("nowhere").exists()


def test_a_list_that_is_a_link_lists_nothing(folder):
    Path("outside").write_text("x")
    Path(LIST).symlink_to("outside")
    write("one")
    assert Path("outside").read_text() == "x"
    assert not Path(LIST).is_symlink()


def test_a_picture_of_ours_is_known_by_its_mark(folder):
    save_figure(overview(items((3, 4))), "ours.png")
    Image.new("RGB", (4, 4)).save("photo.png")
    check_picture(Path("ours.png"))
    check_picture(Path("new.png"))
    check_picture(Path("photo.png"), overwrite=True)
    with pytest.raises(SegxaiError, match=rf"^photo.png {FOREIGN}, or give --overwrite"):
        check_picture(Path("photo.png"))


def test_a_picture_does_not_follow_a_link(folder):
    Path("photo.txt").write_text("the user's")
    Path("r.png").symlink_to("photo.txt")
    save_figure(overview(items((3, 4))), "r.png")
    assert Path("photo.txt").read_text() == "the user's"
    assert stat.S_ISREG(Path("r.png").lstat().st_mode)
