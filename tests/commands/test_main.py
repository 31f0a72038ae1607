"""``npz-vision VERB`` and ``python -m processing VERB``."""

import shutil
import subprocess

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


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_script_of_each_shell_completes_verbs_and_flags(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "npz-vision" in script
    assert all(verb in script for verb in VERBS)
    assert "cache-dir" in script


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
