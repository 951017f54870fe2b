"""Tiny vision-language models and their processors, built in code. Tests of pictures use them."""

from PIL import Image

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image>' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN_TEMPLATE = TEMPLATE.replace("'<image>'", "'<|vision_start|><|image_pad|><|vision_end|>'")
PLACES = 4  # tokens an image of 16 x 16 takes
USER, ANSWER = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Paris."}


def picture(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (20, 20), colour)


def llava_processor(tokenizer):
    """A Llava processor without torchvision."""
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def llava(processor):
    """A Llava of two layers of 16 and 32 dimensions."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    small = {"intermediate_size": 32, "num_hidden_layers": 2}
    eyes = CLIPVisionConfig(
        hidden_size=16, num_attention_heads=2, image_size=16, patch_size=8, **small
    )
    words = LlamaConfig(
        vocab_size=420, hidden_size=32, num_attention_heads=4, initializer_range=0.2, **small
    )
    settings = {"image_token_index": processor.image_token_id, "vision_feature_layer": -1}
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=eyes, text_config=words, **settings)
    )


def qwen_processor(tokenizer):
    """A Qwen2-VL processor for images alone: its reader of videos needs torchvision."""
    from transformers import ProcessorMixin, Qwen2VLImageProcessorPil, Qwen2VLProcessor

    class ImagesOnly(Qwen2VLProcessor):
        def __init__(self, image_processor, tokenizer, chat_template=None):
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)

    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    reader = Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=256)
    return ImagesOnly(reader, tokenizer, chat_template=QWEN_TEMPLATE)


def qwen(processor):
    """A Qwen2-VL of two layers with its rotary positions in three parts."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    torch.manual_seed(0)
    number = processor.tokenizer.convert_tokens_to_ids
    words = {
        "vocab_size": 420, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    eyes = {"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "patch_size": 4}
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=words,
            vision_config={**eyes, "mlp_ratio": 2},
            image_token_id=number("<|image_pad|>"),
            video_token_id=number("<|video_pad|>"),
            vision_start_token_id=number("<|vision_start|>"),
            vision_end_token_id=number("<|vision_end|>"),
        )
    )
