"""Checkpoints of other programs (published SOGNet, UPSNet, ImageNet backbones) as variables of this network."""
