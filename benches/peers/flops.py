"""Floating-point operations a picture, two a multiply-add, of the convolutions and the classifier.

A layer with p outputs, d inputs and t positions takes 2pdt forward, 2pdt for its input's gradient and 2pdt for
its weight's. Of c cotangent columns each takes the last two; nothing needs the gradient of the pictures.
"""


def layers(width, classes=10):
    """(p, d, t) of every layer of ResNet-18 on 32x32 pictures, the first one first."""
    found = [(width, 3 * 9, 32 * 32)]
    before, side = width, 32
    for stage in range(4):
        after = width << stage
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            side //= stride
            found.append((after, before * 9, side * side))
            found.append((after, after * 9, side * side))
            if stride != 1:
                found.append((after, before, side * side))
            before = after
    return found + [(classes, before, 1)]


def forward(width):
    """F: one forward pass."""
    return sum(2 * p * d * t for p, d, t in layers(width))


def sweep(width, columns):
    """A forward pass and `columns` cotangents back, as the plain algorithm counts them: (1 + 2c) F less c times
    the input gradient of the first layer."""
    p, d, t = layers(width)[0]
    return forward(width) + columns * (2 * forward(width) - 2 * p * d * t)


def parameters(width, classes=10):
    """Weights, the classifier's biases, and scale and shift of a batch norm after every convolution."""
    *convolutions, head = layers(width, classes)
    return sum(p * d + 2 * p for p, d, _ in convolutions) + head[0] * (head[1] + 1)
