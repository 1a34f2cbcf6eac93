"""What holds for every test: no network, one thread, fixed seeds, and shapes and types checked as they are passed."""

import os
import random
import signal

import hypothesis
import jaxtyping
import numpy as np
import torch

# `datasets` reads these when it is imported, and processes that tests start inherit them
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ACCELERATE_USE_CPU"] = "true"
torch.set_num_threads(1)
# a shell starts its background jobs with Ctrl-C ignored, and the processes that tests interrupt would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# before any test imports these packages
jaxtyping.install_import_hook(["data", "nmt", "captioning"], "beartype.beartype")

hypothesis.settings.register_profile("verso", deadline=None)
hypothesis.settings.load_profile("verso")


def pytest_runtest_setup() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
