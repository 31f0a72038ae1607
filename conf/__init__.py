"""Settings of `train_example.py` as Hydra configuration files.

Each folder is a group, each file in it a choice; `train.yaml` selects one choice of each group.
Every key is an argument of the `_target_` constructor. The comment next to it gives the unit and
the meaning of the default; the constructor's docstring has the details. This folder is a package,
so that Hydra finds it as `pkg://conf` from any directory. It holds no code.
"""
