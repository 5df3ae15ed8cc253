"""`stmn tune VERB`: train with different values of a training's options, and show which validate best."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmn.cli.app import command, make_app
from stmn.cli.console import answer, answer_json
from stmn.cli.parameters import DeviceName, JsonLines, Wait, WorkspacePath
from stmn.cli.stage_command import command_class, with_options
from stmn.errors import count_of
from stmn.options import options_of

if TYPE_CHECKING:
    from stmn.recipe.tuning.question import Tuning
    from stmn.recipe.tuning.study import Trial

app = make_app("Try values of a training's options, and show which validate best.")

#: rows of the table at the end
_SHOWN = 10
_EXAMPLES = {
    "train-stream": (
        "stmn tune train-stream --modality flow --space lr=1e-4..1e-1 --trials 30",
        "stmn tune train-stream --space lr=0.001..0.1 --space bn=train,frozen",
    ),
    "fuse": ("stmn tune fuse --space fusion=add,multiply --space lr=1e-4..1e-2 --trials 30",),
}
_PANEL = "Tuning"

_Space = Annotated[
    list[str],
    typer.Option(
        "--space",
        metavar="KEY=VALUES",
        help="an option of the training, and what to try: numbers LOW..HIGH or values A,B,C; repeated for each option. "
        "LOW..HIGH:log or LOW..HIGH:linear sets the scale, which is log if HIGH is ten times LOW or more",
        rich_help_panel=_PANEL,
    ),
]
_Trials = Annotated[
    int, typer.Option("--trials", metavar="N", min=1, help="trials of the study in all", rich_help_panel=_PANEL)
]
_Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes", metavar="NUMBER", min=0, help="start no trial after this many minutes", rich_help_panel=_PANEL
    ),
]
_Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="stop a trial early if its validation is below the median at that step",
        rich_help_panel=_PANEL,
    ),
]
_Name = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="the study's folder in tune/ [default: made from the command and what it asks]",
        rich_help_panel=_PANEL,
    ),
]


def _add(verb: str) -> None:
    """Add the command that tunes one kind of training."""
    model = options_of(verb)

    def run(
        given: dict[str, Any],
        space: _Space,
        trials: _Trials = 20,
        minutes: _Minutes = None,
        prune: _Prune = False,
        name: _Name = None,
        workspace: WorkspacePath = None,
        device: DeviceName = None,
        wait: Wait = None,
        as_json: JsonLines = False,
    ) -> None:
        from stmn.cli.display import Display
        from stmn.recipe.tuning.question import prepare_tuning
        from stmn.recipe.tuning.tune import run_tuning
        from stmn.settings import load_settings
        from stmn.workspace import Workspace

        settings = load_settings(workspace=workspace, device=device)
        defaults, display = settings.defaults.get(verb, {}), Display(as_json)
        tuning = prepare_tuning(verb, given, space, name, Workspace(settings.workspace), defaults, settings.device)
        run_tuning(tuning, trials, display, settings.device, minutes, prune, bool(wait))
        if as_json:
            answer_json(_summary(tuning))
        else:
            _print_study(tuning)

    run.__name__ = verb
    run.__doc__ = f"Try values of the options of {verb}. All other options are those of {verb}, the same in each trial."
    command(app, verb, examples=_EXAMPLES[verb], cls=command_class(model))(with_options(model, run))


for _verb in _EXAMPLES:
    _add(_verb)


def _summary(tuning: "Tuning") -> dict[str, Any]:
    """The result as JSON."""
    study, best = tuning.study, tuning.study.best
    return {
        "study": study.name,
        "path": str(study.path),
        "trials": len(study.trials),
        "validation_videos": tuning.held_out,
        "best": best.model_dump() if best else None,
        "command": tuning.question.command(best.values) if best else None,
    }


def _print_study(tuning: "Tuning") -> None:
    """Print the best trials, how to train with the values of the first, and how far to trust their accuracies."""
    from stmn.cli.console import answers

    study, ranking, question = tuning.study, tuning.study.ranking, tuning.question
    if ranking:
        answer(f"Accuracy in % on {count_of(tuning.held_out, 'validation video')}, best trials first")
        answers().print(_make_table(tuning, ranking[:_SHOWN]))
    states = (f"{study.count(state)} {word}" for state, word in _STATES.items() if study.count(state))
    answer(f"{count_of(len(study.trials), 'trial')}: {', '.join(states)}; all of them: {study.table}")
    if not ranking:
        return
    best = ranking[0]
    if same := sum(trial.accuracy == best.accuracy for trial in ranking) - 1:
        answer(f"{count_of(same, 'other trial')} validated as well as trial {best.number}, the first of them.")
    answer(f"The best is {best.run}. This command trains it:")
    answer(f"  {question.command(best.values)}")
    answer("This one tests it:")
    answer(f"  {question.workspace.command('evaluate', best.run)}")
    if len(ranking) > 1:
        answer(
            f"The best of {len(ranking)} validation accuracies is too good to be a result: one video of "
            f"{tuning.held_out} is {100 / tuning.held_out:.1f} points."
        )
    answer("No test video has been looked at.")


#: state of a trial -> its words in the count of trials
_STATES = {"done": "done", "stopped": "stopped early", "failed": "failed", "running": "not finished"}


def _make_table(tuning: "Tuning", trials: "list[Trial]") -> Any:
    """The best trials."""
    from rich.table import Table
    from rich.text import Text

    from stmn.recipe.tuning.space import show_value

    table = Table()
    table.add_column("trial", justify="right")
    table.add_column("%", justify="right")
    for key in tuning.question.space:
        table.add_column(key, overflow="fold")
    table.add_column("run", overflow="fold")
    for trial in trials:
        values = (show_value(trial.values[key]) for key in tuning.question.space)
        table.add_row(str(trial.number), Text(f"{100 * (trial.accuracy or 0):.1f}", "bold"), *values, trial.run)
    return table
