"""Stored samples into Lightning: the datamodule, and what happens to a batch on the device.

May import `processing`, torch and lightning; never hydra.
"""

from datamodules.npz_datamodule import LazyNPZDataModule
from datamodules.transforms import Augmentation, to_float

__all__ = ["Augmentation", "LazyNPZDataModule", "to_float"]
