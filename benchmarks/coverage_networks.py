"""Networks of packages that people use, small where they can be made so, by family: what coverage.py compiles.

Weights are random.  timm, transformers and pytorchcv are installed by hand; none of it is a dependency of smartc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage_timm import TIMM
from tests.support import torchvision_models

Built = tuple[nn.Module, tuple[Any, ...]]
Build = Callable[[], Built]

# The transformers of this size: enough heads and layers to show what goes, few enough to be quick.
_SIZES = {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT = _SIZES | {"intermediate_size": 128, "max_position_embeddings": 64}
_GROUPED = _TEXT | {"num_key_value_heads": 2}
_IMAGES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_GPT = {"vocab_size": 100, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
_T5 = {"vocab_size": 100, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
_SPEECH = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32, 32),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 32, "depths": [2, 2], "num_heads": [4, 8], "window_size": 4}
_WHISPER = {
    "vocab_size": 100,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "num_mel_bins": 16,
    "max_source_positions": 32,
    "max_target_positions": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_MARKS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# The name of the configuration and of the class, its sizes, and the kind of its inputs.
TRANSFORMERS: Mapping[str, tuple[str, str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _GROUPED, "tokens"),
    "mistral": ("MistralConfig", "MistralForCausalLM", _GROUPED, "tokens"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", _GROUPED, "tokens"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", _GROUPED | {"head_dim": 16}, "tokens"),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", _GROUPED | {"head_dim": 16, "num_key_value_heads": 1}, "tokens"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", _GROUPED | {"head_dim": 16}, "tokens"),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", _GROUPED | {"head_dim": 16}, "tokens"),
    "phi": ("PhiConfig", "PhiForCausalLM", _TEXT, "tokens"),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", _GROUPED | {"pad_token_id": 0}, "tokens"),
    "gpt-neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _TEXT, "tokens"),
    "gpt-j": ("GPTJConfig", "GPTJForCausalLM", _GPT | {"rotary_dim": 8}, "tokens"),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT, "tokens"),
    "opt": ("OPTConfig", "OPTForCausalLM", _TEXT | {"ffn_dim": 128, "word_embed_proj_dim": 64}, "tokens"),
    "bloom": ("BloomConfig", "BloomForCausalLM", {**_SIZES, "n_layer": 2, "n_head": 4}, "tokens"),
    "falcon": ("FalconConfig", "FalconForCausalLM", _SIZES, "tokens"),
    "stablelm": ("StableLmConfig", "StableLmForCausalLM", _GROUPED, "tokens"),
    "olmo": ("OlmoConfig", "OlmoForCausalLM", _GROUPED | {"pad_token_id": 0}, "tokens"),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", _GROUPED, "tokens"),
    "granite": ("GraniteConfig", "GraniteForCausalLM", _GROUPED, "tokens"),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM", _GROUPED | {"pad_token_id": 0}, "tokens"),
    "modernbert": (
        "ModernBertConfig",
        "ModernBertModel",
        _TEXT | _MARKS | {"cls_token_id": 1, "sep_token_id": 2},
        "tokens",
    ),
    "bert": ("BertConfig", "BertModel", _TEXT, "tokens"),
    "roberta": ("RobertaConfig", "RobertaModel", _TEXT | {"pad_token_id": 1}, "tokens"),
    "electra": ("ElectraConfig", "ElectraModel", _TEXT | {"embedding_size": 32}, "tokens"),
    "albert": ("AlbertConfig", "AlbertModel", _TEXT | {"embedding_size": 32}, "tokens"),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertModel",
        {"vocab_size": 100, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
        "tokens",
    ),
    "deberta-v2": (
        "DebertaV2Config",
        "DebertaV2Model",
        _TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
        "tokens",
    ),
    "mpnet": ("MPNetConfig", "MPNetModel", _TEXT, "tokens"),
    "t5-encoder": ("T5Config", "T5EncoderModel", _T5, "tokens"),
    "t5": ("T5Config", "T5ForConditionalGeneration", _T5 | {"decoder_start_token_id": 0}, "two texts"),
    "whisper": ("WhisperConfig", "WhisperForConditionalGeneration", _WHISPER, "speech and text"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model", _SPEECH, "sound"),
    "hubert": ("HubertConfig", "HubertModel", _SPEECH, "sound"),
    "vit": ("ViTConfig", "ViTModel", _IMAGES, "images"),
    "deit": ("DeiTConfig", "DeiTModel", _IMAGES, "images"),
    "beit": ("BeitConfig", "BeitModel", _IMAGES | {"use_relative_position_bias": True}, "images"),
    "dinov2": ("Dinov2Config", "Dinov2Model", _IMAGES, "images"),
    "dinov3": ("DINOv3ViTConfig", "DINOv3ViTModel", _IMAGES, "images"),
    "siglip": ("SiglipVisionConfig", "SiglipVisionModel", _IMAGES, "images"),
    "clip-vision": ("CLIPVisionConfig", "CLIPVisionModel", _IMAGES, "images"),
    "swin": ("SwinConfig", "SwinModel", _SWIN, "larger images"),
    "swin-v2": ("Swinv2Config", "Swinv2Model", _SWIN, "larger images"),
    "segformer": (
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        {"hidden_sizes": [16, 32, 64, 96], "num_attention_heads": [1, 2, 4, 4], "decoder_hidden_size": 64},
        "larger images",
    ),
    "convnext-v2": ("ConvNextV2Config", "ConvNextV2Model", {"hidden_sizes": [16, 32, 64, 96]}, "larger images"),
    "mobilevit": ("MobileViTConfig", "MobileViTModel", {"image_size": 64}, "larger images"),
}


class _Called(nn.Module):
    """A model of transformers, called by names, without its cache; the first output."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the first output."""
        output: Tensor = self.model(**dict(zip(self.names, inputs, strict=True)))[0]
        return output


def _inputs(kind: str) -> dict[str, Tensor]:
    """Return inputs of a kind by name, a batch of two."""
    tokens = torch.randint(3, 100, (2, 12))
    return {
        "tokens": {"input_ids": tokens},
        "two texts": {"input_ids": tokens, "decoder_input_ids": tokens[:, :7]},
        "speech and text": {"input_features": torch.randn(2, 16, 64), "decoder_input_ids": tokens[:, :7]},
        "sound": {"input_values": torch.randn(2, 2000)},
        "images": {"pixel_values": torch.randn(2, 3, 32, 32)},
        "larger images": {"pixel_values": torch.randn(2, 3, 64, 64)},
    }[kind]


def _of_transformers(name: str) -> Built:
    """Return one network of transformers."""
    torchvision_models.declare_missing_operators()
    import transformers

    config_name, model_name, sizes, kind = TRANSFORMERS[name]
    config = getattr(transformers, config_name)(**sizes)
    config.use_cache = False
    inputs = _inputs(kind)
    model = getattr(transformers, model_name)(config).eval()
    return _Called(model, tuple(inputs)).eval(), tuple(inputs.values())


def _of_timm(name: str, size: int) -> Built:
    """Return one network of timm, with ten classes."""
    torchvision_models.declare_missing_operators()
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    return model, (torch.randn(2, 3, size, size),)


def _of_pytorchcv(name: str, size: int) -> Built:
    """Return one network of pytorchcv."""
    from pytorchcv.model_provider import get_model

    return get_model(name, pretrained=False).eval(), (torch.randn(2, 3, size, size),)


def _of_torchvision(name: str) -> Built:
    """Return one network of torchvision."""
    return torchvision_models.build(name)


_PYTORCHCV: dict[str, int] = {
    "resnet20_cifar10": 32,
    "preresnet20_cifar10": 32,
    "densenet40_k12_cifar10": 32,
    "diaresnet20_cifar10": 32,
    "seresnet20_cifar10": 32,
    "ror3_56_cifar10": 32,
    "fbnet_cb": 224,
    "proxylessnas_mobile": 224,
    "shufflenet_g1_wd4": 224,
    "squeezenext23_w1": 224,
    "darknet_tiny": 224,
    "mobilenet_wd4": 224,
    "igcv3_wd4": 224,
    "mnasnet_small": 224,
    "condensenet74_c4_g4": 224,
    "peleenet": 224,
    "bisenet_resnet18_celebamaskhq": 128,
    "fastscnn_cityscapes": 128,
    "lednet_cityscapes": 128,
    "simplepose_resnet18_coco": 128,
}

FAMILIES: Mapping[str, Mapping[str, Build]] = {
    "torchvision": {name: partial(_of_torchvision, name) for name in torchvision_models.BUILDERS},
    "transformers": {name: partial(_of_transformers, name) for name in TRANSFORMERS},
    "pytorchcv": {name: partial(_of_pytorchcv, name, size) for name, size in _PYTORCHCV.items()},
    "timm": {name: partial(_of_timm, name, size) for name, size in TIMM.items()},
}
