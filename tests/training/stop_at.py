"""StopAt: a callback that sends this process a signal, as a user or a scheduler would."""

import os

import lightning as L


class StopAt(L.Callback):
    """Sends a signal at a training batch, counted over epochs, or at a validation batch."""

    def __init__(self, signum, batch=None, val_batch=None):
        self.signum, self.batch, self.val_batch, self.count = signum, batch, val_batch, 0

    def on_train_batch_start(self, trainer, module, batch, index):
        if self.count == self.batch:
            os.kill(os.getpid(), self.signum)
        self.count += 1

    def on_validation_batch_end(self, trainer, module, outputs, batch, index, loader=0):
        if index == self.val_batch and trainer.state.fn == "fit":
            os.kill(os.getpid(), self.signum)
