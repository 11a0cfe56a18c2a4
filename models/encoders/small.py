"""Small encoders for small pictures, trained from scratch with the decoder on a CPU.

Both see a 96 x 96 picture as a 6 x 6 grid of 128 channels for about 50 million multiply-adds. Two
coordinate channels go in before the last stage (CoordConv, Liu et al. 2018, arXiv:1807.03247):
without them a convolution cannot tell where in the picture it is, and "above" and "left of" would
have to be learned from the zeros of the padding.
"""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import layers

CHANNELS = 128
INPUT_SIZE = 96
STRIDE = 16


@keras.saving.register_keras_serializable(package="captioner")
class AddCoordinates(layers.Layer):
    """Appends each cell's row and column, in -1..1, as two more channels.

    [N, h, w, c] becomes [N, h, w, c + 2].

    >>> AddCoordinates()(tf.zeros((1, 6, 6, 96))).shape
    TensorShape([1, 6, 6, 98])
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        ops = keras.ops
        batch, height, width = ops.shape(inputs)[0], inputs.shape[1], inputs.shape[2]
        rows, columns = ops.meshgrid(
            ops.linspace(-1.0, 1.0, height), ops.linspace(-1.0, 1.0, width), indexing="ij"
        )
        coordinates = ops.cast(ops.stack([rows, columns], axis=-1), inputs.dtype)
        coordinates = ops.broadcast_to(coordinates[None], (batch, height, width, 2))
        return ops.concatenate([inputs, coordinates], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        *cells, channels = input_shape
        assert channels is not None
        return (*cells, channels + 2)


def small_cnn(input_size: int) -> keras.Model:
    """Five plain convolutions.

    Args:
      input_size: Height and width of the images.

    Returns:
      Model from float32 [N, S, S, 3] in 0..255 to [N, S / 16, S / 16, 128], rounded up.
    """
    images = keras.Input((input_size, input_size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = _convolution(x, 24, kernel_size=5, strides=2)
    x = _convolution(x, 48, strides=2)
    x = _convolution(x, 96, strides=2)
    x = AddCoordinates()(x)
    x = _convolution(x, CHANNELS, strides=2)
    x = _convolution(x, CHANNELS)
    return keras.Model(images, x, name="small_cnn")


def small_resnet(input_size: int) -> keras.Model:
    """A stem and three residual stages of one block each (He et al. 2015, arXiv:1512.03385).

    Args:
      input_size: Height and width of the images.

    Returns:
      Model from float32 [N, S, S, 3] in 0..255 to [N, S / 16, S / 16, 128], rounded up.
    """
    images = keras.Input((input_size, input_size, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    x = _convolution(x, 24, kernel_size=5, strides=2)
    x = _residual_block(x, 32)
    x = _residual_block(x, 64)
    x = AddCoordinates()(x)
    x = _residual_block(x, CHANNELS)
    return keras.Model(images, x, name="small_resnet")


def _convolution(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int = 3,
    strides: int = 1,
    activation: str | None = "relu",
) -> keras.KerasTensor:
    """Convolution, batch normalisation, activation."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    # A training here is a few hundred steps; with Keras's momentum of 0.99 the moving statistics
    # would still be on their way when the model is evaluated.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    x = layers.BatchNormalization(momentum=0.9, synchronized=replicas > 1)(x)
    return layers.Activation(activation)(x) if activation else x


def _residual_block(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """Two convolutions beside a projection; halves the grid."""
    shortcut = _convolution(x, filters, kernel_size=1, strides=2, activation=None)
    x = _convolution(x, filters, strides=2)
    x = _convolution(x, filters, activation=None)
    return layers.Activation("relu")(layers.Add()([shortcut, x]))
