"""Will this training end in a model? Asked before minutes of decoding and hours of training."""

from pathlib import Path

import torch

from dermx.config import Config
from dermx.errors import ConfigError, DermxError
from dermx.train.export import require_pooling
from dermx.train.network import build_network, choose_precision
from dermx.train.processes import join_processes, require_shares
from dermx.train.stages import parameter_groups, start_stage


def check_training(
    config: Config, n_classes: int, *, init: Path | None = None, pretrained: bool = True
) -> None:
    """Refuse what training would refuse at its start, or the export at its end.

    The network is made once for this, as `fit` makes it: its name, its weights, the size of its
    pictures, its layers and how it ends are all tried.

    Args:
        config: All settings.
        n_classes: Number of logits.
        init: Starting weights; see `build_network`.
        pretrained: Without `init`, download ImageNet weights; else start at random.

    Raises:
        ConfigError: The batch can't be split, the device has no such precision, timm no such
            network, the network not so many layers, or it does not take these pictures; or there
            are no weights to start from.
        DataError: The weights don't fit the network.
        BundleError: The network does more than average its map before the linear layer.
    """
    settings, size = config.train, config.preprocess.image_size
    process = join_processes()
    require_shares(settings.batch_size, process.num_processes)
    choose_precision(settings.precision, process.device)
    network = build_network(settings.architecture, n_classes, init=init, pretrained=pretrained)
    try:
        start_stage(network, head_only=False, frozen_layers=settings.frozen_layers)
        parameter_groups(network, settings)
        require_pooling(network.eval(), torch.full((2, 3, size, size), 0.5))
    except DermxError:
        raise
    except Exception as error:  # timm's networks refuse in many ways, e.g. a size they don't take
        raise ConfigError(
            f"{settings.architecture} can't be trained on {size} pixels: "
            f"{type(error).__name__}: {error}"
        ) from error
