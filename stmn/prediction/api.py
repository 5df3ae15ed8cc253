"""Classify a video with a model file: `stmn.load("model.safetensors").predict("video.mp4")`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from stmn.datasets.base import as_id
from stmn.datasets.scan import describe_left_out, scan_folder
from stmn.errors import CheckpointError, DataError, PluginError, UsageError
from stmn.exporting.load import is_exported, load_exported
from stmn.flow.estimator import check_estimator, load_estimator
from stmn.nets.checkpoint import load_checkpoint
from stmn.prediction.classifier import Classifier, ClassScore
from stmn.prediction.features import WindowFeatures, features_of_spans, features_of_whole
from stmn.prediction.table import UNKNOWN
from stmn.prediction.whole_video import read_whole_video
from stmn.prediction.windows import Window, classify_spans, read_frames, slide_window
from stmn.runtime.device import NamedPrecision, choose_device
from stmn.runtime.progress import Progress, Silent
from stmn.video.decode import ALLOWED_DAMAGE, iter_frames
from stmn.video.measure import Measure, MeasuredApart, measure_video
from stmn.video.pictures import list_pictures
from stmn.video.source import Source, is_live, parse_source

__all__ = [
    "ClassScore", "MeasuredApart", "Model", "Source", "WholePrediction", "Window", "WindowFeatures", "find_videos",
    "is_live", "load_model", "measure_video", "parse_source",
]  # fmt: skip

#: chunks of a whole video (section 4.2)
CHUNKS = 25
#: chunks of a window, as in a training sample
WINDOW_CHUNKS = 5


@dataclass(frozen=True)
class WholePrediction:
    """The prediction for a whole video: all classes, best first; its frames, at the model's rate, and its seconds.

    `logits` has a row of (classes,) for each output of the network.
    """

    logits: list[Tensor]
    ranked: list[ClassScore]
    frames: int
    seconds: float


class Model(Classifier):
    """A trained model. It reads files, online addresses, cameras (by number) and standard input (`-`)."""

    def unknown_rule(self, threshold: str) -> Callable[[Tensor], bool]:
        """Make a function that tells from (outputs, classes) logits whether a video is of no known class.

        Args:
            threshold: A number above 0 and below 1: the least confidence of a known class. Or "auto": the threshold of
                the model's calibration; then the energy of each output must also lie in the range seen in calibration,
                so that a video unlike all of those is unknown however sure the softmax is.

        Raises:
            UsageError: `threshold` is neither, the model or the chosen stream is not calibrated, or a class is called
                `UNKNOWN`.
        """
        if UNKNOWN in self.classes:
            raise UsageError(f"--unknown: the model has a class '{UNKNOWN}' of its own")
        if threshold != "auto":
            least = _read_share(threshold)
            return lambda outputs: self.rank(outputs.mean(dim=0))[0].score < least
        found = self.description.calibration
        if found is None:
            raise UsageError("--unknown auto: the model is not calibrated: stmn calibrate MODEL, or give a number")
        if not self.uses_all_outputs:
            raise UsageError(
                f"--unknown auto: the calibration is of the mean over streams, not of {self.stream} alone: leave "
                f"--stream out, or give a number"
            )

        ranges = [found.output_energies.get(name, (-inf, inf)) for name in self.network.outputs]

        def is_unknown(outputs: Tensor) -> bool:
            energies = outputs.double().logsumexp(dim=1).tolist()
            inside = all(low <= energy <= high for energy, (low, high) in zip(energies, ranges, strict=True))
            return not inside or self.rank(outputs.mean(dim=0))[0].score < found.unknown_below

        return is_unknown

    def predict(self, video: str | Path | Source, chunks: int = CHUNKS, flips: bool = True) -> list[ClassScore]:
        """Classify a whole video.

        Args:
            video: A path, an address, a camera's number, or `-`.
            chunks: How many chunks to spread over the video.
            flips: Also average over mirrored frames, if the training data allowed mirroring.

        Returns:
            All classes, most probable first.

        Raises:
            DataError: The video can't be read or has too few frames.
        """
        return self.classify(video, chunks, flips).ranked

    def logits(self, video: str | Path | Source, chunks: int = CHUNKS, flips: bool = True) -> list[Tensor]:
        """(classes,) logits of each output, from `chunks` chunks of the whole video.

        Raises:
            DataError: The video can't be read or has too few frames, or the logits are NaN or infinite.
            StmnError: There is not enough memory.
        """
        return self.classify(video, chunks, flips).logits

    def classify(
        self, video: str | Path | Source, chunks: int = CHUNKS, flips: bool = True, progress: Progress | None = None,
        allow_damage: float = ALLOWED_DAMAGE, measure: Measure = measure_video,
    ) -> WholePrediction:  # fmt: skip
        """Classify a whole video, and measure its length. Errors are those of `logits`.

        Args:
            video: A path, an address, a camera's number, or `-`.
            chunks: How many chunks to spread over the video.
            flips: Also average over mirrored frames, if the training data allowed mirroring.
            progress: Where notices go.
            allow_damage: The fraction of the frames, 0..1, that may be lost to damage.
            measure: Measures the video's length; a `MeasuredApart` survives decoders that crash or hang.
        """
        protocol = self.protocol(chunks, flips)
        source = _as_source(video)
        whole = read_whole_video(self, source, protocol, progress or Silent(), allow_damage, measure)
        logits = self.compute_logits(whole.given, protocol, source.name)
        return WholePrediction(logits, self.rank(torch.stack(logits).mean(dim=0)), whole.frames, whole.seconds)

    def windows(
        self, video: str | Path | Source, length: float = 2.0, step: float = 0.5, chunks: int = WINDOW_CHUNKS,
        flips: bool = True,
    ) -> Iterator[Window]:  # fmt: skip
        """Classify windows that slide over a video, which may be an endless stream.

        Args:
            video: A path, an address, a camera's number, or `-`.
            length: Seconds of a window.
            step: Seconds from one window to the next.
            chunks: How many chunks to spread over a window.
            flips: Also average over mirrored frames, if the training data allowed mirroring.

        Yields:
            A window as soon as its last frame is read. The last one ends with the video.

        Raises:
            DataError: The video can't be read.
        """
        given = _as_source(video)
        spans = slide_window(read_frames(self, iter_frames(given, self.description.preparation.fps)), length, step)
        return classify_spans(self, spans, self.protocol(chunks, flips), given.name, Silent())

    def features(
        self, video: str | Path | Source, length: float | None = 1.0, step: float | None = None,
        chunks: int | None = None, flips: bool = True, progress: Progress | None = None,
        allow_damage: float = ALLOWED_DAMAGE, measure: Measure = measure_video,
    ) -> Iterator[WindowFeatures]:  # fmt: skip
        """Compute the features of windows that slide over a video: what the network's classifiers read.

        Args:
            video: A path, an address, a camera's number, or `-`.
            length: Seconds of a window; None for the whole video as one window.
            step: Seconds from one window to the next; by default `length`, so that they don't overlap.
            chunks: How many chunks to spread over a window: 5 by default, 25 over a whole video.
            flips: Also average over mirrored frames, if the training data allowed mirroring and no two classes change
                places in a mirror.
            progress: Where notices go.
            allow_damage: The fraction of the frames, 0..1, that may be lost to damage.
            measure: Measures the length of a whole video.

        Yields:
            Start, end and the (C,) float32 features of each stream, for each window as soon as its last frame is read.

        Raises:
            UsageError: The model is an exported file, which has no features.
            DataError: The video can't be read or has too few frames, or a feature is NaN or infinite.
            StmnError: There is not enough memory.
        """
        self.check_inside("features")
        given, said = _as_source(video), progress or Silent()
        protocol = self.protocol(chunks or (CHUNKS if length is None else WINDOW_CHUNKS), flips)
        if length is None:
            whole = read_whole_video(self, given, protocol, said, allow_damage, measure)
            yield features_of_whole(self, whole, protocol, given.name)
            return
        frames = iter_frames(
            given, self.description.preparation.fps, allow_damage, lambda words: said.say(f"{given.name}: {words}")
        )
        spans = slide_window(read_frames(self, frames), length, step or length)
        yield from features_of_spans(self, spans, protocol, given.name, said)


def _read_share(text: str) -> float:
    """Read a number above 0 and below 1. Raises `UsageError`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise UsageError(f"--unknown {text}: give auto, or a number above 0 and below 1, such as 0.5")
    return value


def _as_source(video: str | Path | Source) -> Source:
    """The source of a video."""
    return video if isinstance(video, Source) else parse_source(video)


def load_model(
    path: str | Path, device: str = "auto", stream: str | None = None, precision: NamedPrecision = "float32"
) -> Model:
    """Load a model file that stmn wrote, or an exported file that `stmn export` made from it.

    Args:
        path: The model file: `.safetensors`, or an exported file of a kind that can be read, such as `.onnx`. The
            latter runs on the CPU, in the precision that it was written in.
        device: "auto", "cpu" or "cuda".
        stream: The output to use if the model has several; by default their mean.
        precision: "float32", "bfloat16" or "float16": the precision of convolutions. The classifier and all averages
            are float32 in any case.

    Raises:
        CheckpointError: The file is missing, damaged or not a model, or has no such stream.
        UsageError: There is no such device or precision, one was given for an exported file, or the file names flow
            options that don't exist.
        PluginError: A plugin that the file names is not installed.
    """
    exported = is_exported(Path(path))
    on_gpu = device.startswith("cuda")
    if exported and (on_gpu or precision != "float32"):
        what = f"--device {device}" if on_gpu else f"--precision {precision}"
        raise UsageError(f"{path}: an exported file runs on the CPU in its own precision; leave {what} out")
    network, description = load_exported(Path(path)) if exported else load_checkpoint(Path(path))
    if description.blank:
        raise UsageError(
            f"{path}: is a control, trained with noise instead of {description.blank}, so it can't classify videos; "
            f"stmn evaluate tests it"
        )
    if stream not in (None, *network.outputs):
        raise CheckpointError(f"{path}: has no stream '{stream}'; it has: {', '.join(network.outputs)}")
    if "motion" in network.names:
        how = description.preparation
        try:
            (check_estimator if how.flow_options else load_estimator)(how.flow, how.flow_options)
        except (UsageError, PluginError) as error:
            raise type(error)(f"{path}: {error}") from error
    return Model(network, description, choose_device("cpu" if exported else device, precision), stream)


def find_videos(arguments: list[str], progress: Progress | None = None) -> Iterator[Source]:
    """Replace folders by the videos in them, sorted; leave everything else, and folders of pictures, as it is.

    In messages and tables, bytes of names that are not UTF-8 become escapes.

    Args:
        arguments: Files, folders, addresses, cameras, "-".
        progress: Shows notices, such as about files in a folder that are not videos.

    Raises:
        DataError: A folder has no videos in it.
    """
    for argument in arguments:
        path = Path(argument)
        if not path.is_dir() or list_pictures(path):
            yield _named(argument)
            continue
        scan = scan_folder(path, sequences_below=1)
        left_out = describe_left_out(scan.left_out)
        if not scan.files:
            raise DataError(f"{as_id(path)}: no videos in this folder" + (f"; {left_out}" if left_out else ""))
        if left_out and progress:
            progress.say(f"{as_id(path)}: {left_out}")
        yield from map(_named, scan.files)


def _named(place: str | Path) -> Source:
    """A source whose name can be printed and written."""
    source = parse_source(place)
    return replace(source, name=as_id(source.name))
