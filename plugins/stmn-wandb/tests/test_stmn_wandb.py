"""The logger keeps its contract, and leaves a run that can be sent later."""

import time

from stmn_wandb import WandB

from stmn.testing import check_logger


def test_contract_is_kept():
    check_logger(WandB)


def test_offline_run_holds_rows_and_options(tmp_path):
    logger = WandB(tmp_path, 0, {"run": "motion-resnet18-0123", "options": {"lr": 0.25}}, project="mine")
    logger.write({"step": 10, "loss": 1.5})
    logger.close()
    [record] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    words = {b"mine", b"motion-resnet18-0123", b"loss", b"lr"}
    end = time.monotonic() + 60  # a process of wandb's own writes the file, and may end after `close`
    while (missing := {word for word in words if word not in record.read_bytes()}) and time.monotonic() < end:
        time.sleep(0.1)
    assert not missing
