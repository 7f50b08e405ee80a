"""What the pretrained networks share: attention, bar distributions, encodings, weight files.

Tensors in, tensors out; nothing here knows a study. Changing what a layer computes makes the
shipped weights worthless.
"""
