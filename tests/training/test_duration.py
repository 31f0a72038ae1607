import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from training.duration import UNLIMITED, Duration, epochs_for, validation_interval

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*:FutureWarning",
)


class Counting(L.LightningModule):
    """Counts validations, and notes the steps that the trainer plans when the optimizer is made."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.validated_after = []

    def training_step(self, batch):
        return self.layer(batch[0]).mean()

    def validation_step(self, batch):
        self.validated_after.append(self.trainer.current_epoch + 1)

    def configure_optimizers(self):
        self.planned = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(tmp_path, samples, batch_size=4, **settings):
    options = {"max_epochs": UNLIMITED, **settings}
    duration = Duration(epochs=2, min_steps=20, validations=5)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[duration],
        **options,
    )
    data = DataLoader(TensorDataset(torch.zeros(samples, 1)), batch_size)
    model = Counting()
    trainer.fit(model, data, DataLoader(TensorDataset(torch.zeros(1, 1))))
    return trainer, model


def test_a_small_data_set_gets_more_epochs_a_large_one_does_not():
    assert epochs_for(3, epochs=6, min_steps=1500) == 500
    assert epochs_for(7, epochs=6, min_steps=1500) == 215
    assert epochs_for(250, epochs=6, min_steps=1500) == 6
    assert epochs_for(10**6, epochs=6, min_steps=1500) == 6
    assert epochs_for(1, epochs=6, min_steps=0) == 6


def test_there_are_enough_validations_but_not_one_after_each_tiny_epoch():
    assert validation_interval(500, validations=25) == 20
    assert validation_interval(49, validations=25) == 1
    assert validation_interval(1, validations=25) == 1


def test_a_trainer_without_epochs_takes_the_steps_that_little_data_needs(tmp_path, capsys):
    trainer, model = fit(tmp_path, samples=5)  # two steps an epoch
    assert trainer.global_step == model.planned == 20
    assert model.validated_after == [2, 4, 6, 8, 10]
    printed = capsys.readouterr().out
    assert printed.startswith(
        "5 training samples are 2 steps an epoch: 10 epochs instead of 2, for at least 20 steps, "
        "validated every 2 epochs"
    )
    assert len(printed.splitlines()) == 1


def test_the_last_epoch_is_validated_if_the_interval_is_no_divisor(tmp_path):
    trainer, model = fit(tmp_path, samples=12, batch_size=8, accumulate_grad_batches=2)
    assert trainer.global_step == model.planned == 20, "accumulated batches are one step"
    assert model.validated_after[-1] == trainer.current_epoch
    trainer, model = fit(tmp_path, samples=7, batch_size=4)
    assert model.validated_after[-1] == trainer.current_epoch


def test_enough_data_gets_the_usual_epochs_and_a_validation_after_each(tmp_path, capsys):
    trainer, model = fit(tmp_path, samples=40)
    assert trainer.global_step == 20
    assert model.validated_after == [1, 2]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("max_epochs", [1, 3])
def test_epochs_of_the_trainer_are_kept(tmp_path, capsys, max_epochs):
    trainer, model = fit(tmp_path, samples=5, max_epochs=max_epochs)
    assert trainer.global_step == model.planned == 2 * max_epochs
    assert model.validated_after == list(range(1, max_epochs + 1))
    assert capsys.readouterr().out == ""


def test_limits_of_the_trainer_count(tmp_path):
    trainer, _ = fit(tmp_path, samples=40, limit_train_batches=2)
    assert trainer.global_step == 20, "an epoch has two steps"
    trainer, model = fit(tmp_path, samples=40, max_steps=7)
    assert trainer.global_step == model.planned == 7
    trainer, model = fit(tmp_path, samples=5, check_val_every_n_epoch=3)
    assert model.validated_after == [3, 6, 9], "the user's interval is kept"


@pytest.mark.parametrize("setting", ["epochs", "validations"])
def test_settings_below_one_are_refused(setting):
    with pytest.raises(ValueError, match=setting):
        Duration(**{setting: 0})
