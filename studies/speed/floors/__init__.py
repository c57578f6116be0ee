"""What a training step cannot do without, one file a backbone: ``products(model, batch)`` makes its matrix products.

``bench.py`` finds the file by the name of the module in ``recsys_lt.backbones`` that the backbone is from.
"""
