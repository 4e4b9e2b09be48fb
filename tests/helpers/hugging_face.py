"""Tiny networks of each family of transformers with random weights, stored as their users store them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoImageProcessor

LABELS = {0: "road", 1: "tree", 2: "sky", 3: "car"}
NAMES = {"id2label": LABELS, "label2id": {name: number for number, name in LABELS.items()}}
SIDES = {"height": 64, "width": 96}

_SWIN = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_QUERIES = {"num_queries": 12, **NAMES}
_TASK_TOKENS = 24
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]


def _segformer() -> tuple[nn.Module, str, dict[str, Any]]:
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        **NAMES,
    )
    return transformers.SegformerForSemanticSegmentation(config), "SegformerImageProcessorPil", {"size": SIDES}


def _mobilenet_v2() -> tuple[nn.Module, str, dict[str, Any]]:
    config = transformers.MobileNetV2Config(depth_multiplier=0.25, output_stride=8, **NAMES)
    settings = {"size": {"shortest_edge": 65}, "do_center_crop": False}
    return transformers.MobileNetV2ForSemanticSegmentation(config), "MobileNetV2ImageProcessorPil", settings


def _mobilevit() -> tuple[nn.Module, str, dict[str, Any]]:
    config = transformers.MobileViTConfig(
        hidden_sizes=[16, 16, 16],
        neck_hidden_sizes=[8, 8, 8, 16, 16, 16, 32],
        aspp_out_channels=16,
        output_stride=16,
        **NAMES,
    )
    settings = {"size": {"shortest_edge": 64}, "do_center_crop": False}
    return transformers.MobileViTForSemanticSegmentation(config), "MobileViTImageProcessorPil", settings


def _upernet() -> tuple[nn.Module, str, dict[str, Any]]:
    backbone = transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=16, auxiliary_channels=8, auxiliary_in_channels=16, **NAMES
    )
    return transformers.UperNetForSemanticSegmentation(config), "SegformerImageProcessorPil", {"size": SIDES}


def _beit() -> tuple[nn.Module, str, dict[str, Any]]:
    config = transformers.BeitConfig(
        image_size=64, patch_size=16, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16,
        out_indices=[1, 2, 3, 4], use_absolute_position_embeddings=True, use_auxiliary_head=False, **NAMES,
    )  # fmt: skip
    settings = {"size": {"height": 64, "width": 64}, "do_center_crop": False}
    return transformers.BeitForSemanticSegmentation(config), "BeitImageProcessorPil", settings


def dpt(side: int = 64, patch: int = 16, names: dict[str, Any] = NAMES) -> tuple[nn.Module, str, dict[str, Any]]:
    """Make a DPT of squares of `side` pixels; returns it, its processor's name and settings."""
    config = transformers.DPTConfig(
        image_size=side, patch_size=patch, hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, use_auxiliary_head=False, **names,
    )  # fmt: skip
    settings = {"size": {"height": side, "width": side}}
    return transformers.DPTForSemanticSegmentation(config), "DPTImageProcessorPil", settings


def _mask2former() -> tuple[nn.Module, str, dict[str, Any]]:
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(**_SWIN), feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        **_QUERIES,
    )  # fmt: skip
    settings = {"size": SIDES}
    return transformers.Mask2FormerForUniversalSegmentation(config), "Mask2FormerImageProcessorPil", settings


def _maskformer() -> tuple[nn.Module, str, dict[str, Any]]:
    decoder = transformers.DetrConfig(
        d_model=32, num_queries=12, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    config = transformers.MaskFormerConfig(
        backbone_config=transformers.SwinConfig(**_SWIN), decoder_config=decoder, fpn_feature_size=32,
        mask_feature_size=32, **NAMES,
    )  # fmt: skip
    settings = {"size": SIDES}
    return transformers.MaskFormerForInstanceSegmentation(config), "MaskFormerImageProcessorPil", settings


def _oneformer() -> tuple[nn.Module, str, dict[str, Any]]:
    config = transformers.OneFormerConfig(
        backbone_config=transformers.SwinConfig(**_SWIN), conv_dim=32, mask_dim=32, hidden_dim=32,
        encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        query_dec_layers=1, text_encoder_width=16, text_encoder_context_length=_TASK_TOKENS, text_encoder_num_layers=1,
        text_encoder_vocab_size=len(_WORDS), text_encoder_n_ctx=4, task_seq_len=_TASK_TOKENS, is_training=False,
        **_QUERIES,
    )  # fmt: skip
    return transformers.OneFormerForUniversalSegmentation(config), "OneFormerImageProcessorPil", {"size": SIDES}


FAMILIES = {
    "segformer": _segformer,
    "mobilenet_v2": _mobilenet_v2,
    "mobilevit": _mobilevit,
    "upernet": _upernet,
    "beit": _beit,
    "dpt": dpt,
    "mask2former": _mask2former,
    "maskformer": _maskformer,
    "oneformer": _oneformer,
}


def put(
    folder: Path, family: str, made: tuple[nn.Module, str, dict[str, Any]] | None = None, **settings: Any
) -> tuple[Any, Any]:
    """Store a network of the family with random weights, or one that was `made`, with other settings of its processor.

    Returns:
        it, and its processor: of images, and of tasks.
    """
    torch.manual_seed(0)
    model: Any
    model, processor, own = made or FAMILIES[family]()
    for parameter in model.parameters():  # larger than fresh ones, so that classes differ
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    if family == "mobilevit":  # its activations halve what is small, forty times
        model.segmentation_head.classifier.convolution.weight.data *= 1e12
    model.eval()
    model.save_pretrained(folder)
    getattr(transformers, processor)(**own | settings).save_pretrained(folder)
    return model, _of_tasks(folder) if family == "oneformer" else AutoImageProcessor.from_pretrained(
        folder, backend="pil"
    )


def balance(folder: Path, model: Any, processor: Any, image: NDArray[np.uint8]) -> None:
    """Give a stored network of masks and their classes a bias for each class, so that a picture's mask holds several.

    Its masks are made flat: interpolated logarithms of its scores then differ little from those of interpolated scores.
    """
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    [classes] = [layer for layer in linear.values() if layer.out_features == len(LABELS) + 1]
    masks = [layer for name, layer in linear.items() if "mask_embed" in name][-1]
    classes.weight.data *= 5
    masks.weight.data *= 0.1
    masks.bias.data *= 0.1
    for _ in range(30):
        _, found = own_mask(model, processor, image)
        classes.bias.data[:-1] -= shares(found).mean(dim=(1, 2)).log()
    model.save_pretrained(folder)


def shares(found: Any) -> Tensor:
    """Compute each class's share of the scores (C, h, w) from masks and their classes, on the masks' own points."""
    classes = found.class_queries_logits.softmax(dim=-1)[0, :, :-1]  # (Q, C)
    scores = torch.einsum("qc,qhw->chw", classes, found.masks_queries_logits[0].sigmoid())
    return scores / scores.sum(dim=0)


def _of_tasks(folder: Path) -> Any:
    """Store a tokenizer that knows letters, and what published image processors name: a file that is on the hub."""
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(_WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    settings = folder / "preprocessor_config.json"
    named = {"class_info_file": "ade20k_panoptic.json", "repo_path": "shi-labs/oneformer_demo"}
    settings.write_text(json.dumps(json.loads(settings.read_bytes()) | named))
    return transformers.OneFormerProcessor(images, tokenizer, task_seq_length=_TASK_TOKENS)


def own_mask(model: Any, processor: Any, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Any]:
    """Segment a picture by the framework's own processing; returns its mask, and what the network gave."""
    task = {"task_inputs": ["semantic"]} if isinstance(processor, transformers.OneFormerProcessor) else {}
    given = processor(images=image, return_tensors="pt", **task)
    with torch.inference_mode():
        found = model(**{name: given[name] for name in ("pixel_values", "task_inputs") if name in given})
    [mask] = processor.post_process_semantic_segmentation(found, target_sizes=[image.shape[:2]])
    return mask.numpy().astype(np.uint8), found
