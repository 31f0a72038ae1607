from tests.test_datamodule import data_dir

__all__ = ["data_dir"]
