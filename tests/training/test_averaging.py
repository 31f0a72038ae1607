import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from training.averaging import Averaging

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning",
)


class Counter(L.LightningModule):
    """Its only weight is the number of steps taken; it is created in `setup`, as our models do."""

    def __init__(self):
        super().__init__()
        self.layer = None
        self.validated = []
        self.own = []

    def setup(self, stage):
        if self.layer is None:
            self.layer = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.zeros_(self.layer.weight)

    def training_step(self, batch):
        self.own.append(self.weight)
        return -self.layer(batch[0]).mean()

    def validation_step(self, batch):
        self.validated.append(self.weight)

    @property
    def weight(self):
        return self.layer.weight.item()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


def fit(tmp_path, callbacks, max_epochs=3, model=None, **settings):
    model = model or Counter()
    trainer = L.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        num_sanity_val_steps=0, max_epochs=max_epochs,
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.ones(4, 1)), 2)
    trainer.fit(model, data, data, **settings)
    return trainer, model, data


def averages(steps, decay):
    """The averages after each step, of weights 1, 2, ..., by the definition."""
    found = [1.0]
    for step in range(1, steps):
        kept = min(decay, (1 + step) / (10 + step))
        found.append(kept * found[-1] + (1 - kept) * (step + 1))
    return found


def test_validations_and_the_trained_model_have_the_average_but_the_training_does_not(tmp_path):
    _, model, _ = fit(tmp_path, [Averaging(decay=0.6)])
    expected = averages(6, 0.6)
    assert model.own == [0, 1, 2, 3, 4, 5]
    assert model.validated[::2] == pytest.approx(expected[1::2])
    assert model.weight == pytest.approx(expected[-1])


def test_a_checkpoint_holds_the_average_and_a_continued_training_continues_both(tmp_path):
    trainer, model, data = fit(tmp_path, [Averaging(0.6)], max_epochs=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt")
    assert checkpoint["state_dict"]["layer.weight"].item() == pytest.approx(averages(4, 0.6)[-1])
    trainer, model, _ = fit(tmp_path, [Averaging(0.6)], ckpt_path=tmp_path / "last.ckpt")
    assert model.own == [4, 5]
    assert model.weight == pytest.approx(averages(6, 0.6)[-1])
    # Validating a checkpoint uses its average, and leaves it in the model.
    trainer.validate(model, data, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert model.validated[-1] == model.weight == pytest.approx(averages(4, 0.6)[-1])


def test_a_checkpoint_saved_during_a_validation_is_the_same(tmp_path):
    class Saving(L.Callback):
        def on_validation_batch_start(self, trainer, *_):
            trainer.save_checkpoint(tmp_path / "within.ckpt")

        def on_validation_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "after.ckpt")

    fit(tmp_path, [Averaging(0.6), Saving()], max_epochs=1)
    within, after = (torch.load(tmp_path / f"{name}.ckpt") for name in ("within", "after"))
    for part in ("state_dict", "current_model_state"):
        assert within[part]["layer.weight"] == after[part]["layer.weight"]
    assert within["current_model_state"]["layer.weight"] == 2


def test_a_second_training_starts_a_new_average(tmp_path):
    averaging = Averaging(0.9)
    _, model, _ = fit(tmp_path, [averaging], max_epochs=1)
    torch.nn.init.constant_(model.layer.weight, 100.0)
    fit(tmp_path, [averaging], max_epochs=1, model=model)
    assert model.weight == pytest.approx(101 + 1 - 2 / 11)


def test_batch_normalisations_are_averaged_and_their_counters_copied(tmp_path):
    class Normalising(Counter):
        def setup(self, stage):
            super().setup(stage)
            self.norm = torch.nn.BatchNorm1d(1)

        def training_step(self, batch):
            return self.norm(batch[0]).sum() + super().training_step(batch)

    _, model, _ = fit(tmp_path, [Averaging(0.5)], max_epochs=1, model=Normalising())
    assert model.norm.num_batches_tracked == 2
    # Running means of 0.1 and 0.19, in turn averaged with the weights 2/11 and 9/11.
    assert model.norm.running_mean.item() == pytest.approx(0.1 + 0.09 * 9 / 11)


def test_a_decay_above_one_is_refused():
    with pytest.raises(ValueError, match="decay"):
        Averaging(1.5)
