"""The networks of the paper, as PyTorch modules.

Read them in this order:

1. `config`: the configuration of a network, in plain values.
2. `units` and `backbones`: timm's residual blocks opened up, eq. (1), and the ResNets made of them.
3. `fusions`: how a gate combines the two streams, eqs. (2) and (5).
4. `temporal` and `injectors`: temporal filters and pooling, eqs. (8) to (10), and where the filters go.
5. `stream`: one backbone with its filters, its pooling and its classifier.
6. `network`, `single_stream` and `two_stream`: one stream alone, and two streams tied by gates. `build` makes either.
7. `checkpoint` and `weights/`: model files, and the weights that training starts from.
8. `fast/`: the same functions, faster on a CPU.
9. `show/`: the parts of a network and their costs, as a table and as a figure.

Equations, sections, tables and figures are those of Feichtenhofer, Pinz and Wildes, CVPR 2017.
"""
