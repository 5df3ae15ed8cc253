"""Networks: backbones, fusions, injectors, one stream, two streams, weights and checkpoints."""
