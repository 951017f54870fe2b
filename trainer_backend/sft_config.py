"""The name under which saved `training_args.bin` files of earlier versions know SFTConfig."""

from trainer_backend.training.sft_config import SFTConfig

__all__ = ["SFTConfig"]
