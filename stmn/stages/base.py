"""The base class of stages, the context that one runs in, and the result that it returns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from stmn import registry
from stmn.errors import DataError, PluginError, StmnError
from stmn.options.base import DataOptions, Option, OutputKind, SetOptions, StageOptions
from stmn.registry.options import check_options
from stmn.runtime.progress import Progress
from stmn.workspace import Input, Run, Workspace

if TYPE_CHECKING:
    from stmn.runtime.ranks import Ranks

OptionsT = TypeVar("OptionsT", bound=StageOptions)

#: kind of output -> message if no run made one, and the command that makes one
_NOT_MADE = {
    "model": ("no trained model{of} in this workspace; make one with: ", "train-stream"),
    "scores": ("no scores{of} in this workspace; make them with: ", "evaluate"),
}


@dataclass(frozen=True)
class Context:
    """What a stage gets besides its options.

    Attributes:
        workspace: where it runs.
        progress: where it reports.
        device: `auto`, `cpu` or `cuda`.
        out: the folder of its run.
        inputs: the files that its input options name.
        data_dir: the folder of the prepared data set, if the stage reads one.
        run_stage: takes options of another stage, runs that stage unless it is up to date, and returns its run.
    """

    workspace: Workspace
    progress: Progress
    device: str
    out: Path
    inputs: dict[str, list[Input]]
    data_dir: Path | None
    run_stage: Callable[[Any], Run]

    def input(self, name: str) -> Input | None:
        """The file of an input option that takes one; None if it was not given."""
        given = self.inputs.get(name, [])
        return given[0] if given else None

    @property
    def ranks(self) -> "Ranks":
        """The processes of torchrun that run the stage together; without torchrun this process alone."""
        from stmn.runtime.ranks import current_ranks

        return current_ranks()

    @property
    def data(self) -> Path:
        """The folder of the prepared data set."""
        if self.data_dir is None:
            raise StmnError("this stage has no data set")
        return self.data_dir


@dataclass(frozen=True)
class Result:
    """What a stage made.

    Attributes:
        outputs: kind -> file, relative to the folder of the run.
        values: the results in the run's record, as JSON.
        files: other files, or folders of shards, that must be unchanged for the run to be up to date; relative to the
            folder.
    """

    outputs: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


class Stage(Generic[OptionsT]):
    """One kind of step. A subclass has `options`, `makes`, `label` and `run`; the rest has defaults.

    Attributes:
        options: its options model.
        makes: the kinds of output that later stages may name.
        shared: under torchrun all processes run it together; if false, the first process runs it alone.
        several_devices: it uses all devices of a list, `cuda:0,cuda:1`.
        all_splits: its split may be `all`.
        always: it runs even if it is up to date, because it looks for changes itself.
        format: part of a run's identity. It is raised when a new version of stmn gives different results for the same
            options, so that an upgrade repeats only what it must.
    """

    options: type[OptionsT]
    makes: tuple[OutputKind, ...] = ()
    shared = False
    several_devices = False
    all_splits = False
    always = False
    format = 1

    def check_options(self, options: OptionsT) -> None:
        """Refuse options that can't work whatever the data, such as a missing file. Raises `StmnError`."""

    def complete(self, options: OptionsT, workspace: Workspace, inputs: dict[str, list[Input]]) -> OptionsT:
        """Fill in the defaults that depend on the workspace or on other options.

        Args:
            inputs: the files of input options that are resolved already.

        Raises:
            UsageError, DataError: something is missing or contradicts itself.
        """
        return options

    def find_input(self, options: OptionsT, name: str, value: str, workspace: Workspace) -> Input:
        """The file that an input option names.

        Raises:
            StmnError: there is none.
        """
        return workspace.find_input(value, *options.inputs()[name])

    def label(self, options: OptionsT) -> str:
        """The first part of its run's name: `motion-resnet152`."""
        raise NotImplementedError

    def find_run(self, options: OptionsT, workspace: Workspace) -> Run | None:
        """Its run, if the stage chooses the folder; None for a folder named by label and fingerprint."""
        return None

    def plugins(self, options: OptionsT) -> list[dict[str, str]]:
        """The identities of the plugins and other outside content that decide the result."""
        return []

    def check(self, options: OptionsT, context: Context) -> None:
        """Refuse, before anything is written, what can't work. Raises `StmnError`."""

    def run(self, options: OptionsT, context: Context) -> Result:
        """Do the work, and write files to `context.out`."""
        raise NotImplementedError

    def deliver(self, options: OptionsT, run: Run) -> None:
        """Write extra files that options ask for, such as a copy; the run itself may be an earlier one."""

    def find_unchanged(self, options: OptionsT, run: Run) -> list[str]:
        """The options that name files which an earlier command wrote and `deliver` would not change."""
        return []

    def has_more_work(self, options: OptionsT, run: Run) -> bool:
        """True if options that don't decide the result ask for more work than an up-to-date run has done."""
        return False


def fill_newest(
    options: OptionsT, name: OutputKind, workspace: Workspace, inputs: dict[str, list[Input]], **match: Any
) -> OptionsT:
    """Fill in input `name` ("model", "scores"), if it was not given, with the newest one of the data set.

    Args:
        match: values that the options of its run must have, such as the split's.

    Raises:
        DataError: there is none; the message names the command that makes one.
    """
    if getattr(options, name) is not None or name in inputs:
        return options
    data = workspace.find_data(options.data).name if isinstance(options, SetOptions) else None
    run = workspace.newest(name, data, "evaluate" if name == "scores" else None, **match)  # only scores of networks
    if run is None:
        of = ", ".join([*([data] if data else []), *(f"{key} {value}" for key, value in match.items())])
        words, verb = _NOT_MADE[name]
        command = workspace.command(verb, data=getattr(options, "data", None) or data, split=match.get("split"))
        raise DataError(words.format(of=f" of {of}" if of else "") + command)
    return options.model_copy(update={name: str(run.path)})


def check_split(stage: Stage[Any], options: StageOptions, workspace: Workspace) -> None:
    """Refuse a split that the data set doesn't have, before looking for anything that depends on it.

    Raises:
        DataError: there is no such split; the message names those there are.
    """
    if not isinstance(options, DataOptions) or options.split is None or (options.split == "all" and stage.all_splits):
        return
    if options.data is None and len(workspace.prepared()) != 1:  # the inputs may say which set is meant
        return
    from stmn.store.format.header import read_header

    read_header(workspace.find_data(options.data)).part(options.split, "train")


def find_unknown_plugins(options: StageOptions) -> list[str]:
    """One line for each option that names a plugin which isn't installed, or has options which a plugin doesn't take.

    A plugin's code is imported only if it is given options. If the options don't name the plugin, as a stage may choose
    it, its options are checked later, by `read_plugin_options`.
    """
    wrong = []
    for option in options.described().values():
        if option.plugin and (name := getattr(options, option.name)) is not None:
            try:
                _check_plugin(option.plugin, name)
            except StmnError as error:
                wrong.append(f"{option.name}: {error}")
        elif any(line.startswith(f"{option.options_of}: ") for line in wrong):
            continue  # the missing plugin is reported already
        elif option.options_of and option.options_of in options.model_fields_set and getattr(options, option.name):
            try:
                _read_options_of(options, option)
            except StmnError as error:
                wrong.append(f"{option.name}: {error}")
    return wrong


def read_plugin_options(options: OptionsT) -> OptionsT:
    """Convert the plugin options in complete options to the plugins' types.

    Raises:
        UsageError: a plugin doesn't take them.
        PluginError: there is no such plugin, or it can't be imported.
    """
    held = [o for o in options.described().values() if o.options_of and getattr(options, o.name)]
    read = {o.name: _read_options_of(options, o) for o in held}
    # options of data sets and flows stay as written, because prepared sets record them in that form
    return options.model_copy(update={o.name: read[o.name] for o in held if o.added_later})


def _read_options_of(options: StageOptions, option: Option) -> dict[str, Any]:
    """The plugin options that an option holds, for the plugin that another option names, in the plugin's types."""
    assert option.options_of
    kind, name = options.described()[option.options_of].plugin, getattr(options, option.options_of)
    assert kind is not None
    return check_options(kind, name, getattr(options, option.name))


def _check_plugin(kind: str, name: str) -> None:
    """Raise `StmnError` if there is no such plugin; a backbone may also be a ResNet of timm."""
    try:
        registry.find(kind, name)
    except PluginError:
        if kind != "backbone":
            raise
        from stmn.nets.backbones import check_arch

        check_arch(name)
