"""The parts of `train_example.py`: what a command does between its settings and its exit status.

`settings`, `overrides` and `build` know Hydra; every other module gets plain objects. Lightning and
torch are imported inside functions, so that a wrong setting or ``--help`` is answered at once.
"""
