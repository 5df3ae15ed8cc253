"""Imported once by the fork server, so that each worker process starts in milliseconds.

A worker that is not forked imports it before its first job, so that the imports don't count towards the job's time.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, during these imports too

import av  # noqa: E402, F401
import simplejpeg  # noqa: E402, F401
import torch  # noqa: E402, F401
from PIL import Image  # noqa: E402, F401
