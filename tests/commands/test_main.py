"""``npz-vision VERB`` and ``python -m processing VERB``."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import processing.__main__
from processing.__main__ import VERBS, command_parser, main


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_help_with_a_description_and_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"\n  npz-vision {verb} " in text.partition("example")[2]
    assert text.partition("\n\n")[2][0].isupper()  # the description


def test_help_lists_all_verbs_and_the_version_is_known(capsys):
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as ended:
            main([flag])
        assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())  # lines are as long as the terminal is wide
    assert all(line in text for line in VERBS.values())
    assert "npz-vision-data" in text


def test_an_unknown_verb_is_wrong_usage_that_names_the_verbs(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["zzz"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "zzz" in message
    assert all(verb in message for verb in VERBS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_the_script_of_each_shell_completes_verbs_and_flags(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "npz-vision" in script
    assert all(verb in script for verb in VERBS)
    assert "cache-dir" in script


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_shells_show_one_whole_line_about_each_verb(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(line in script for line in VERBS.values())


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish_completes(tmp_path, capsys):
    assert main(["completion", "fish"]) == 0
    (tmp_path / "npz-vision.fish").write_text(capsys.readouterr().out)
    ask = "source npz-vision.fish; complete -C 'npz-vision ver'"
    answer = subprocess.run(
        ["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert answer.stdout == f"verify\t{VERBS['verify']}\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ver"], ["verify"]),
        (["info", "photo"], ["photographs.npz"]),
        (["process", "--raw-data-dir", "photo"], ["photographs.npz"]),
        (["export", "--format", "c"], ["coco"]),
    ],
    ids=["a verb", "a file", "the value of a flag", "a choice"],
)
def test_bash_completes(words, expected, tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    (tmp_path / "photographs.npz").touch()
    ask = f"""
        source completion.bash
        COMP_WORDS=(npz-vision {" ".join(words)}) COMP_CWORD={len(words)}
        function=$(complete -p npz-vision | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function npz-vision {words[-1]} {words[-2] if words[1:] else "npz-vision"}
        echo "${{COMPREPLY[@]}}"
    """
    answer = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert answer.stdout.split() == expected


def test_the_parser_of_all_verbs_takes_the_flags_of_the_processor():
    options = command_parser().parse_args(["process", "--all", "--workers", "3"])
    assert options.num_workers == 3


def test_help_names_the_command_as_it_was_started(monkeypatch):
    monkeypatch.setattr("sys.argv", [processing.__main__.__file__, "verify"])
    assert command_parser([]).prog == "python -m processing"
    monkeypatch.setattr("sys.argv", ["C:\\Scripts\\npz-vision.exe", "verify"])
    assert command_parser([]).prog == "npz-vision"


def stop(*_):
    raise KeyboardInterrupt


@pytest.fixture
def compressed(tmp_path):
    """A compressed file of another program."""
    np.savez_compressed(
        tmp_path / "train_detector.npz",
        images=np.zeros((2, 16, 16, 3), np.uint8),
        bboxes=np.array([[1, 1, 9, 9], [2, 2, 8, 8]], np.float32),
        image_paths=np.array(["a.png", "b.png"]),
    )
    return tmp_path / "train_detector.npz"


def test_a_command_that_is_interrupted_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("processing.commands.info.run", stop)
    assert main(["info", "a.npz"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("verb", ["info", "verify", "completion"])
def test_results_that_cannot_be_printed_are_a_failure_of_one_line(
    verb, compressed, monkeypatch, capsys
):
    words = [verb, "bash" if verb == "completion" else str(compressed.parent)]
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(words)
    monkeypatch.undo()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("the results cannot be printed: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("verb", ["info", "verify", "preview", "report"])
def test_unpacked_members_of_compressed_files_are_not_left_behind(verb, compressed, tmp_path):
    output = tmp_path / "new" / ("out.png" if verb == "preview" else "out.html")
    more = ["-o", str(output)] if verb in ("preview", "report") else []
    assert main([verb, str(compressed), *more]) == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"new", compressed.name}
    assert main([verb, str(compressed), *more, "--cache-dir", str(tmp_path / "cache")]) == 0
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["info", ""],
        ["verify", "a.npz", "--cache-dir", ""],
        ["report", ""],
        ["export", "a.npz", "--format", "coco", "-o", "out", "--raw-data-dir", "."],
        ["export", "a.npz", "--format", "yolo", "-o", "out", "--raw-data-dir", "nowhere"],
    ],
)
def test_arguments_that_cannot_be_meant_are_wrong_usage(words, capsys):
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    error = capsys.readouterr().err
    assert any(text in error for text in ("is empty", "goes with --format yolo", "not a directory"))
