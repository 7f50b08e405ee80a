"""Parts of the pretrained networks: attention, bar distributions, encodings, weight files.

Everything maps tensors to tensors and is independent of studies. Changing what a layer computes
invalidates the shipped weights.
"""
