"""Build LargeFOV, a large field of view by a single atrous rate (section 4.1 of the paper)."""

from typing import ClassVar

from pipeline.models.backbones import FeatureRequest
from pipeline.models.heads.aspp import ASPP


class LargeFOV(ASPP):
    """Use one branch of ASPP, behind an average pool where the backbone has one (VGG-16's pool5a)."""

    request: ClassVar = FeatureRequest(strides=(8,), average_pool=True)
    rate_counts: ClassVar = range(1, 2)
