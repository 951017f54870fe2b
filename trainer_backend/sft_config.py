"""Import path of SFTConfig in `training_args.bin` files that earlier versions saved."""

from trainer_backend.training.sft_config import SFTConfig

__all__ = ["SFTConfig"]
