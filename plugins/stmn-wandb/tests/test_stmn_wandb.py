"""The logger keeps its contract, and leaves a run that can be sent later."""

from stmn_wandb import WandB

from stmn.testing import check_logger


def test_contract_is_kept():
    check_logger(WandB)


def test_offline_run_holds_rows_and_options(tmp_path):
    logger = WandB(tmp_path, 0, {"run": "motion-resnet18-0123", "options": {"lr": 0.25}}, project="mine")
    logger.write({"step": 10, "loss": 1.5})
    logger.close()
    [record] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = record.read_bytes()
    assert all(word in content for word in (b"mine", b"motion-resnet18-0123", b"loss", b"lr"))
