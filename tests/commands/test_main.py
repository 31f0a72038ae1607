"""``python -m processing VERB`` and ``npz-vision VERB``."""

import shutil
import subprocess

import pytest

from processing.__main__ import VERBS, command_parser, main


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_help_with_a_description_and_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"\n  python -m processing {verb} " in text.partition("example")[2]
    assert text.partition("\n\n")[2][0].isupper()  # the description


def test_help_lists_all_verbs_and_the_version_is_known(capsys):
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as ended:
            main([flag])
        assert ended.value.code == 0
    text = capsys.readouterr().out
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
def test_bash_completes_a_verb(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    ask = f"""
        source {script}
        COMP_WORDS=(npz-vision ver) COMP_CWORD=1 COMP_LINE="npz-vision ver" COMP_POINT=14
        $(complete -p npz-vision | sed 's/.*-F \\([^ ]*\\).*/\\1/') npz-vision ver npz-vision
        echo "${{COMPREPLY[@]}}"
    """
    answer = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["verify"]


def test_the_parser_of_all_verbs_takes_the_flags_of_the_processor():
    options = command_parser().parse_args(["process", "--all", "--workers", "3"])
    assert options.num_workers == 3
