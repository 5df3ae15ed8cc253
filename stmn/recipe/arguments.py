"""The options of `stmn.prepare`, `stmn.train_stream`, `stmn.fuse` and `stmn.evaluate`, for type checkers.

Made by docs/make_arguments.py from the options models; do not edit.
"""

from pathlib import Path
from typing import Any, Literal, TypedDict

from stmn.recipe.results import StageResult

#: a file, a folder, a run by its name, or a result
Named = str | Path | StageResult


class TrainingArguments(TypedDict, total=False):
    """Options of both trainings."""

    # prepared data set: a name or a folder [default: the only one]
    data: Named | None
    # train/test split of the data set; none trains on all videos
    split: str
    # random seed
    seed: int
    # sgd with momentum, or adamw, which wants a lower lr
    optimizer: Literal["sgd", "adamw"]
    # momentum of SGD, or beta1 of AdamW
    momentum: float
    # weight decay, except for biases and batch normalisation
    weight_decay: float
    # epochs after which --schedule steps divides lr by 10 [default: see --schedule]
    milestones: list[float] | None
    # validations without improvement before plateau lowers lr
    patience: int
    # steps in which lr rises to its value [default: 1/20 of the training for cosine, else 0]
    warmup: int | None
    # the same in epochs, in place of --warmup
    warmup_epochs: float | None
    # multiplies lr of layers without starting weights: classifier, temporal filters, gates
    lr_new: float
    # multiplies lr of the biases of convolutions and classifiers; 2 in the authors' code
    lr_bias: float
    # multiplies lr of the gains of batch normalisation; 2 in the authors' code
    lr_gain: float
    # largest gradient norm; larger gradients are scaled down [default: no limit]
    clip: float | None
    # share of each label that is spread over all classes in the loss
    label_smoothing: float
    # mix each video with another one, and their labels, by shares of Beta(a, a), such as 0.2; 0: none
    mixup: float
    # weight the loss of each video by how rare its class is in the training list
    class_weights: bool
    # decay of a running average of the weights, such as 0.999, to validate and save [default: none]
    ema: float | None
    # which weights to save as the model: last, or best in validation; 'every N' also saves a model every N
    # steps
    keep: str
    # smallest stride between the chunks of a video, frames
    stride_min: int
    # largest stride between the chunks of a video, frames
    stride_max: int
    # draw one stride per micro-batch, as the authors' code does, instead of one per video
    shared_stride: bool
    # how chunks are sampled; stride: equally spaced, at a random stride; segments: one at random from each of
    # as many equal segments as there are chunks, as in temporal segment networks
    sampling: Literal["stride", "segments"]
    # show each class equally often, however many videos it has
    balance: bool
    # how far brightness, contrast, saturation and hue of the frames may change: four numbers, such as
    # 0.4,0.4,0.4,0.1 [default: not at all]
    colour_jitter: list[float] | None
    # how frames are cropped [default: multi_scale for flow, else jitter]
    augment: Literal["multi_scale", "jitter", "random_resized", "centre"] | None
    # fraction of the training videos held out for validation, in whole groups
    validation: float
    # which videos these are: the same in all stages with the same number, whatever their --seed
    validation_seed: int
    # memory for decoded frames and flow, MB
    cache_mb: int
    # threads that decode pictures, in each process [default: 1 on a CPU; on a GPU one per core, at most 16]
    loader_threads: int | None
    # training steps [default: from --epochs]
    steps: int | None
    # videos per step; gradients are summed over micro-batches [default: the paper's]
    batch: int | None
    # videos that are normalised by their own batch statistics; --micro-batch is a multiple of it [default:
    # --micro-batch]
    bn_group: int | None
    # batch normalisation; train: by each group's statistics; frozen: by those of the starting weights, which
    # are not trained, nor are scale and shift; partial: frozen except the first layer of each stream
    bn: Literal["train", "frozen", "partial"]
    # weight of a step (one update of the weights) in running statistics, however many groups it has
    bn_momentum: float
    # passes over the training list that recompute the batch statistics at the end (a short list: more, up to
    # 1000 samples); 0 keeps the running statistics
    bn_passes: int
    # precision of convolutions; auto: bfloat16 on a GPU that has it, else float16; float32 on a CPU; tf32:
    # float32 with products in TensorFloat-32, on a GPU
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"]
    # compile the network with torch.compile; the first step takes minutes
    compile: bool
    # what --compile aims at; reduce-overhead: CUDA graphs, which start all kernels of a pass at once
    compile_mode: Literal["default", "reduce-overhead"]
    # bit-identical results in every run on one machine; on a GPU this is slower and lacks some operations
    deterministic: bool
    # resume an interrupted run with the same options; --no-resume starts over
    resume: bool
    # also give the log to a logger: tensorboard, or another plugin
    logger: str | None
    # options of the logger
    logger_options: dict[str, Any]
    # minutes between saves of the training state
    checkpoint_minutes: float


class PrepareArguments(TypedDict, total=False):
    """Options of `prepare`."""

    # plugin that finds videos, classes and splits; a list is known by its header
    dataset: str
    # options of the data set plugin
    dataset_options: dict[str, Any]
    # make splits that test each group, or each video, once; auto: groups if there are any [default: the data
    # set's own splits]
    split_by: Literal["group", "video", "auto"] | None
    # with --split-by: number of splits [default for groups: one per group; for auto: 5]
    folds: int | None
    # let training and testing mirror videos, if the data set allows it
    mirror: bool
    # words to swap in class names when a video is mirrored: left=right
    mirror_pairs: dict[str, str]
    # short side of stored frames, pixels
    short_side: int
    # resample to this many frames per second, by the nearest in time [default: each video's own]
    fps: float | None
    # JPEG quality of frames and flow
    quality: int
    # optical flow estimator: a plugin
    flow: str
    # options of the flow plugin (of tvl1: lambda, theta, tau, ...)
    flow_options: dict[str, Any]
    # clip flow at this many pixels per frame, either way
    bound: float
    # keep the median motion of each flow field, or subtract it
    camera_motion: Literal["keep", "subtract"]
    # skip a video if damage costs more than this fraction of its frames
    allow_damage: float
    # worker processes if there is no --cluster; 0: one per core
    workers: int
    # Dask scheduler, tcp:// or tls://HOST:PORT; its workers must see the same folders
    cluster: str | None
    # skip a video that makes no progress for this many seconds
    video_timeout: float
    # try all skipped videos again, not only changed ones
    retry_skipped: bool
    # delete what is prepared of videos that are not in the data set any more
    drop_gone: bool
    # fail only if more than this many videos are skipped
    allow_failures: int


class TrainStreamArguments(TrainingArguments, total=False):
    """Options of `train-stream`."""

    # rgb trains the appearance stream, flow the motion stream
    modality: Literal["rgb", "flow"]
    # backbone: a plugin, or any ResNet of timm
    arch: str
    # options of the backbone, if that is a plugin
    arch_options: dict[str, Any]
    # multiplies the channels of conv2 to conv5
    width: float
    # initial weights: imagenet, none, auto (imagenet if on this machine, else none), those of a package (such
    # as formula of stmn-formula), a trained model (a run, a file or hf://user/name), or a file: a state dict
    # of timm or torchvision (.safetensors, .pth), or a MatConvNet ResNet (.mat)
    weights: Named
    # side of the training crop, pixels
    size: int
    # L: flow fields per stack
    stack_length: int
    # dropout before the classifier [default: 0.8 for flow, 0 for rgb]
    dropout: float | None
    # T: chunks per video in training
    chunks: int
    # maximum passes over the training list [default: 60 for rgb, 400 for flow]
    epochs: int | None
    # videos in memory at a time; batch normalisation sees them together, or in groups of --bn-group
    micro_batch: int
    # learning rate
    lr: float
    # when to divide lr by 10; plateau: twice, when validation stops improving; steps: at the authors' epochs
    # (20, 40 for rgb; 100, 200, 300 for flow); cosine follows a cosine to 0 instead
    schedule: Literal["plateau", "steps", "cosine"]


class FuseArguments(TrainingArguments, total=False):
    """Options of `fuse`."""

    # trained appearance stream [default: the newest of the data set and split]
    appearance: Named | None
    # trained motion stream [default: the newest of the data set and split]
    motion: Named | None
    # also fuse streams that were trained on test videos of the split
    allow_seen: bool
    # how a gate combines the streams: a plugin; none trains them side by side, without gates
    fusion: str
    # options of the fusion; 'stmn plugins show NAME' lists them
    fusion_options: dict[str, Any]
    # gate only the residual branch, or also the skip path (direct)
    site: Literal["residual", "direct"]
    # which stream gates which
    direction: Literal["motion_to_appearance", "appearance_to_motion", "both"]
    # which residual units of conv2 to conv5 to gate
    gated_units: Literal["second_unit", "every_unit"]
    # gate the receiving stream before or after its ReLU
    operand: Literal["pre_relu", "post_relu"]
    # where to insert temporal filters: a plugin
    injector: str
    # injector for the motion stream [default: as --injector]
    motion_injector: str | None
    # options of the injector
    injector_options: dict[str, Any]
    # options of the motion stream's injector, if it is another one
    motion_injector_options: dict[str, Any]
    # initial weights of a temporal filter
    temporal_init: Literal["centre", "average"]
    # length of a temporal filter, chunks; odd
    temporal_length: int
    # pooling over time before the classifier (eq. 10: max); none classifies each chunk
    temporal_pool: Literal["max", "average", "none"]
    # chunks to pool at a time, at stride 1; predictions are averaged [default: all]
    temporal_window: int | None
    # one loss per stream, or a single loss: on averaged logits, or on a linear layer over both (concatenated)
    prediction: Literal["per_stream", "averaged", "concatenated"]
    # dropout before the motion classifier [default: the stream's own]
    dropout: float | None
    # T: chunks per video in training
    chunks: int
    # passes over the training list [default: 40; 25 with --schedule authors]
    epochs: int | None
    # videos in memory at a time; batch normalisation sees them together, or in groups of --bn-group
    micro_batch: int
    # learning rate
    lr: float
    # when to divide lr by 10; steps: after 20 epochs and after 10 more (the paper); authors: after 10, 15 and
    # 20 of 25 epochs (their code); plateau: when validation stops improving; cosine follows a cosine to 0
    # instead
    schedule: Literal["steps", "authors", "plateau", "cosine"]
    # a control: this stream sees noise instead of its pictures, in training and in testing
    blank: Literal["appearance", "motion"] | None
    # weights of the losses of appearance and motion, such as 0.5,1 [default: 1,1]
    loss_weights: list[float] | None
    # parts that are not trained: appearance, motion (each with its temporal filters and batch statistics, and
    # without dropout), gates, temporal
    freeze: list[Literal["appearance", "motion", "gates", "temporal"]] | None
    # multiplies lr of the trained appearance stream; not of its temporal filters
    lr_appearance: float
    # multiplies lr of the trained motion stream; not of its temporal filters
    lr_motion: float


class EvaluateArguments(TypedDict, total=False):
    """Options of `evaluate`."""

    # prepared data set: a name or a folder [default: the only one]
    data: Named | None
    # train/test split of the data set, or all: one model per split, and their mean [default: the model's, or
    # that of the scores]
    split: str | None
    # random seed
    seed: int
    # which videos of the split to test; validation: those that training held out [default: test, or what the
    # scores are of]
    part: Literal["test", "validation", "train"] | None
    # also test on videos that the model was trained on
    allow_seen: bool
    # instead of one model, average the scores of these models or evaluations
    late_fusion: list[Named] | None
    # instead of testing, join the scores of these evaluations of disjoint folds, with each video once
    join: list[Named] | None
    # weights of the network's streams, or of what --late-fusion names, in the same order; validation chooses
    # them on the videos that training held out; folds, with --join or --split all, on those of the other
    # folds [default: equal]
    stream_weights: list[float] | Literal["validation", "folds"] | None
    # what is averaged over windows, chunks, mirrors and streams: logits, or probabilities
    average: Literal["logits", "softmax"]
    # a control: this stream sees noise with its pictures' mean and deviation [default: as in training]
    blank: Literal["appearance", "motion"] | None
    # chunks per video, evenly spaced
    chunks: int
    # also test mirrored videos, if the data set allows it
    flips: bool
    # test whole frames, fully convolutionally, not only the centre crop
    fully_conv: bool
    # test ten crops: the corners and the centre, each also mirrored
    ten_crop: bool
    # test only the centre crop; same as --no-fully-conv
    centre_crop: bool
    # average the last feature map over windows of the training size, or over all of it (global)
    pool: Literal["window", "global"]
    # pooling over time [default: as in training]
    temporal_pool: Literal["max", "average", "none"] | None
    # chunks to pool at a time, with --temporal-pool; 5 in the authors' code [default: all]
    temporal_window: int | None
    # precision of convolutions; the classifier and all averages are float32 in each
    precision: Literal["float32", "bfloat16", "float16"]
    # threads that decode pictures, in each process [default: 1 on a CPU; on a GPU one per core, at most 16]
    loader_threads: int | None
