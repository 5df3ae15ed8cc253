"""Options that can't be: values of a wrong kind, and values given twice. One line each, in words of this program."""

import pytest
from helpers.commands import call, errors_of, write_recipe

from stmn.errors import UsageError
from stmn.options import MODELS, options_of
from stmn.options.base import build_options

#: how the library that checks types speaks
FOREIGN = (
    "input should",
    "value error",
    "after validation",
    "unable to",
    "pydantic",
    "traceback",
    "valid string",
    "class '",
)
#: none of them is a value of any number, list, table, choice or truth value
TEXTS = ["", "x", "nan", "1e999", "a,b", "="]
VALUES = [True, -1, 1.5, float("nan"), "", "x", [], ["a"], [1, [2]], {}, {"a": 1}, 10**30]


@pytest.mark.parametrize("verb", MODELS)
def test_bad_flags_are_one_plain_line(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["idt", verb.removeprefix("idt-")] if verb.startswith("idt-") else [verb]
    for option in options_of(verb).described().values():
        for text in TEXTS if option.flagged and option.shape != "switch" else ():
            if option.shape in ("text", "path") and text:
                continue
            result = call(*command, f"{option.flag}={text}")
            assert result.exit_code in (1, 2), (option.flag, text)
            assert errors_of(result) == result.stderr.removeprefix("error: ").splitlines(), (option.flag, text)
            assert "no such command" not in result.stderr
            assert not any(word in result.stderr.lower().replace(option.name, "") for word in FOREIGN), result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", MODELS)
def test_bad_values_of_a_recipe_name_their_key(verb):
    refused = 0
    for name in options_of(verb).model_fields:
        for value in VALUES:
            try:
                build_options(options_of(verb), {name: value}, "stage 'a'")
            except UsageError as error:
                refused += 1
                [line] = str(error).splitlines()
                assert line.startswith("stage 'a': ") and name in line
                assert not any(word in line.lower().replace(name, "") for word in FOREIGN), line
    assert refused > 5 * len(options_of(verb).model_fields)


@pytest.mark.parametrize(("arguments", "line"), [
    (["train-stream", "--colour-jitter", "0.4,0.4"], "train-stream: colour_jitter = [0.4, 0.4]: needs 4 values, not 2"),
    (["train-stream", "--colour-jitter", "1,1,x,0"], "train-stream: colour_jitter: 'x' must be a number"),
    (["train-stream", "--lr", "inf"], "train-stream: lr = inf: must be a finite number"),
    (["train-stream", "--momentum", "1"], "train-stream: momentum = 1.0: must be below 1"),
    (["train-stream", "--seed", "4294967296"], "train-stream: seed = 4294967296: must be 4294967295 or less"),
    (["fuse", "--chunks", "0"], "fuse: chunks = 0: must be 1 or more"),
    (["fuse", "--chunks", "many"], "invalid value for '--chunks': 'many' must be a whole number (see stmn fuse --help)"),
    (["evaluate", "--late-fusion", ""], "evaluate: late_fusion is empty: give a value, or leave it out"),
    (["evaluate", "--stream-weights", "x"],
     "evaluate: stream_weights: 'x' must be a number, or give 'validation' or 'folds' alone"),
    (["report", "--samples", "201"], "report: samples = 201: must be 200 or less"),
])  # fmt: skip
def test_what_a_value_must_be_is_said(arguments, line):
    result = call(*arguments)
    assert (result.exit_code, errors_of(result)) == (2, [line])


def test_choice_of_a_recipe_names_the_near_one(tmp_path):
    recipe = write_recipe(
        tmp_path / "r.toml", 'name = "r"', 'id = "a"\nuses = "train-stream"\nmodality = "rbg"\nsteps = true'
    )
    assert [line.split(": ", 1)[1] for line in errors_of(call("recipes", "validate", recipe))] == [
        "stage 1 ('a'): steps = true: must be a whole number",
        "stage 1 ('a'): modality = 'rbg': must be 'rgb' or 'flow' (did you mean 'rgb'?)",
    ]


@pytest.mark.parametrize(("arguments", "flag"), [
    (["fuse", "--seed", "1", "--seed", "2"], "--seed"),
    (["fuse", "-w", "a", "--workspace", "b"], "--workspace"),
    (["train-stream", "--resume", "--no-resume"], "--resume"),
    (["data", "info", "--fields", "1", "--fields", "2"], "--fields"),
    (["predict", "m", "v", "--top", "1", "--top=2"], "--top"),
    (["scores", "fuse", "a", "b", "-o", "c", "--weights", "1,2", "--weights", "3,4"], "--weights"),
    (["recipes", "validate", "a", "--debug", "--debug"], "--debug"),
    (["nets", "show", "a", "--classes", "2", "--classes", "3"], "--classes"),
])  # fmt: skip
def test_a_flag_that_is_given_twice_is_refused(arguments, flag):
    result = call(*arguments)
    assert result.exit_code == 2
    [line] = errors_of(result)
    assert line.startswith(f"{flag} is given twice: give it once (see stmn {arguments[0]}")


def test_a_key_that_is_given_twice_is_refused():
    result = call("prepare", "v", "--flow-options", "tau=0.1,theta=0.3", "--flow-options", "tau=0.2")
    assert (result.exit_code, errors_of(result)) == (2, ["--flow-options tau=...: is given twice: give it once"])


def test_argument_and_its_flag_are_not_both_given():
    result = call("evaluate", "fused", "--model", "motion")
    assert (result.exit_code, errors_of(result)) == (2, ["MODEL and --model are the same: give one of them"])


@pytest.mark.parametrize("given", [
    ["--late-fusion", "none-a", "--late-fusion", "none-b"], ["--late-fusion", "none-a", "none-b"],
    ["--late-fusion=none-a,none-b"], ["--late-fusion=none-a", "none-b"],
], ids=" ".join)  # fmt: skip
def test_lists_add_up_however_they_are_given(given, tmp_path):
    """`none-a` is looked for first, and an option with fewer than two names is refused before that."""
    [line] = errors_of(call("evaluate", *given, "-w", tmp_path))
    assert line.startswith("'none-a': no such file")


@pytest.mark.parametrize("command", [
    ["evaluate"], ["evaluate", "appearance"], ["fuse"], ["train-stream", "--weights", "none"], ["fuse-idt"], ["report"],
], ids=" ".join)  # fmt: skip
def test_split_that_is_not_there_is_named_first(command, trained):
    result = call(*command, "--split", "3", "-w", trained.root)
    assert result.exit_code == 1
    assert errors_of(result) == ["data set synthetic has no split '3'; it has: 1"]
