"""Feeds stored samples to Lightning: the datamodule, and the steps of a batch on the device.

May import `processing`, torch and lightning. Networks and Hydra do not belong here.
"""

from datamodules.npz_datamodule import LazyNPZDataModule
from datamodules.resuming import ResumeEpoch
from datamodules.transforms import Augmentation, to_float

__all__ = ["Augmentation", "LazyNPZDataModule", "ResumeEpoch", "to_float"]
