"""A model's folder and how ONNX Runtime runs it: input to feature map to logits."""
