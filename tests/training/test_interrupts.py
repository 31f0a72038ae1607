"""A training takes SIGINT and SIGTERM over, and gives them back however it ends."""

import signal
import threading

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from training.checkpoints import LastCheckpoint, StopBetweenSteps
from training.interrupts import StopRequest

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning",
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Tiny(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch):
        return self.layer(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Failing(L.Callback):
    """Notes the handlers during the training, and raises errors in it and while it ends."""

    def __init__(self, error=None, later=None):
        self.error, self.later, self.handlers = error, later, None

    def on_train_batch_start(self, trainer, module, batch, index):
        self.handlers = handlers()
        if self.error is not None:
            raise self.error

    def on_exception(self, trainer, module, exception):
        if self.later is not None:
            raise self.later


def handlers():
    return [signal.getsignal(one) for one in SIGNALS]


def is_ours(handler):
    return isinstance(getattr(handler, "__self__", None), StopRequest)


def fit(tmp_path, failing):
    last = LastCheckpoint(tmp_path)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        max_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StopBetweenSteps(last), failing, last],
    )
    trainer.fit(Tiny(), DataLoader(TensorDataset(torch.zeros(2, 1))))


@pytest.fixture(autouse=True)
def handlers_of_pytest():
    """Lightning leaves its own handler of SIGTERM if a callback fails while a training ends."""
    before = handlers()
    yield
    for signum, handler in zip(SIGNALS, before, strict=True):
        signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (Failing(), None),
        (Failing(RuntimeError("in a callback")), RuntimeError),
        (Failing(KeyboardInterrupt()), SystemExit),  # Lightning exits on Ctrl-C
        (Failing(RuntimeError("first"), ValueError("while it ends")), ValueError),
    ],
    ids=["end", "error", "Ctrl-C", "error while it ends"],
)
def test_the_signals_are_given_back(tmp_path, failing, error):
    if error is None:
        fit(tmp_path, failing)
    else:
        with pytest.raises(error):
            fit(tmp_path, failing)
    assert all(map(is_ours, failing.handlers))
    assert not any(map(is_ours, handlers()))


def test_a_training_in_another_thread_does_without_handlers(tmp_path):
    before, noted = handlers(), Failing()
    thread = threading.Thread(target=fit, args=(tmp_path, noted))
    thread.start()
    thread.join()
    assert noted.handlers == before == handlers()
    assert (tmp_path / "last.ckpt").is_file()
