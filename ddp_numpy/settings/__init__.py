"""Every option of training, declared once: name, type, range, default, group, help, and what a change of it means.

All else that knows of options is made from these declarations: the command line and its --help, the keys of --config
and of config.toml, what a resumed run may change and what its checkpoint brings along, and docs/options.md, which
`python -m ddp_numpy.reference` prints.
"""

from ddp_numpy.settings.groups import AUGMENTATION, HYPERPARAMETERS, IN_LAYERS, Data, Model, Output, Training
from ddp_numpy.settings.run import GROUPS, OPTIONS, Settings

__all__ = [
    "AUGMENTATION",
    "GROUPS",
    "HYPERPARAMETERS",
    "IN_LAYERS",
    "OPTIONS",
    "Data",
    "Model",
    "Output",
    "Settings",
    "Training",
]
