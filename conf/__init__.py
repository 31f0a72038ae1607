"""The settings of `train_example.py`: a file a choice, a folder a group, composed by `train.yaml`.

Keys are the names of constructor arguments; what they mean stands in the docstring of the
`_target_`. Importable, so that Hydra finds it as `pkg://conf` from any directory. Holds no code.
"""
