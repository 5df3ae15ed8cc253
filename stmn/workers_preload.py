"""Imported once by the fork server, so that each worker process starts in milliseconds."""

import av  # noqa: F401
import torch  # noqa: F401
import torchvision.io  # noqa: F401
