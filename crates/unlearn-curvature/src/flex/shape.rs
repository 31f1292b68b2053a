//! Sizes of a convolution, and pictures with a border of zeros.

use burn::tensor::ops::ConvOptions;

/// A convolution with groups = 1: `[n, channels, h, w]` → `[n, outputs, h', w']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConvShape {
    pub(super) channels: usize,
    pub(super) outputs: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// (before, after) for rows and columns.
    pub(super) padding: [(usize, usize); 2],
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
}

impl ConvShape {
    /// Of an input `[n, i, h, w]` and a weight `[o, i, kh, kw]`; `None` for groups, a kernel larger than the
    /// padded input, or sizes whose offsets leave 32 bits.
    pub(crate) fn new(x: [usize; 4], weight: [usize; 4], options: &ConvOptions<2>) -> Option<Self> {
        let [_, channels, height, width] = x;
        let [outputs, inputs, rows, columns] = weight;
        let kernel = [rows, columns];
        let input = [height, width];
        let padding = options.padding;
        if options.groups != 1 || inputs != channels || kernel.contains(&0) || options.stride.contains(&0) {
            return None;
        }
        let mut output = [0; 2];
        for a in 0..2 {
            let span = options.dilation[a] * (kernel[a] - 1) + 1;
            output[a] = (input[a] + padding[a].0 + padding[a].1).checked_sub(span)? / options.stride[a] + 1;
        }
        let shape = Self {
            channels,
            outputs,
            kernel,
            stride: options.stride,
            dilation: options.dilation,
            padding,
            input,
            output,
        };
        // A chunk never holds more than a few samples beyond what fits in a cache.
        (shape.input_size().max(shape.output_size()) < 1 << 26).then_some(shape)
    }

    /// The same with other outputs.
    pub(super) fn with_outputs(&self, outputs: usize) -> Self {
        Self { outputs, ..self.clone() }
    }

    /// A 1 × 1 convolution of what this one makes.
    pub(super) fn after(&self, outputs: usize) -> Self {
        Self {
            channels: self.outputs,
            outputs,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            padding: [(0, 0); 2],
            input: self.output,
            output: self.output,
        }
    }

    /// Scalars of one padded input.
    fn input_size(&self) -> usize {
        let side = |a: usize| self.input[a] + self.padding[a].0 + self.padding[a].1;
        self.channels * side(0) * side(1)
    }

    pub(super) fn output_size(&self) -> usize {
        self.outputs * self.positions()
    }

    pub(super) fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    pub(super) fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Length of a patch: channels · kernel.
    pub(super) fn patch(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// The border of the input.
    pub(super) fn frame(&self) -> Frame {
        Frame { channels: self.channels, inner: self.input, border: self.padding }
    }

    /// Where each entry of a patch lies in the padded input, relative to the patch's corner.
    pub(super) fn taps(&self) -> Vec<u32> {
        let frame = self.frame();
        let mut taps = Vec::with_capacity(self.patch());
        for channel in 0..self.channels {
            for y in 0..self.kernel[0] {
                for x in 0..self.kernel[1] {
                    taps.push(frame.at(channel, y * self.dilation[0], x * self.dilation[1]) as u32);
                }
            }
        }
        taps
    }

    /// Where the corner of each patch lies in the padded input.
    pub(super) fn corners(&self) -> Vec<u32> {
        let frame = self.frame();
        let mut corners = Vec::with_capacity(self.positions());
        for y in 0..self.output[0] {
            for x in 0..self.output[1] {
                corners.push(frame.at(0, y * self.stride[0], x * self.stride[1]) as u32);
            }
        }
        corners
    }
}

/// Pictures `[channels, h, w]` with a border of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) channels: usize,
    pub(super) inner: [usize; 2],
    pub(super) border: [(usize, usize); 2],
}

impl Frame {
    fn side(&self, axis: usize) -> usize {
        self.inner[axis] + self.border[axis].0 + self.border[axis].1
    }

    /// Scalars of one framed picture.
    pub(super) fn size(&self) -> usize {
        self.channels * self.side(0) * self.side(1)
    }

    /// Scalars of one picture without the frame.
    pub(super) fn inner_size(&self) -> usize {
        self.channels * self.inner[0] * self.inner[1]
    }

    pub(super) fn at(&self, channel: usize, row: usize, column: usize) -> usize {
        (channel * self.side(0) + row) * self.side(1) + column
    }

    /// Copies one picture into its frame.
    pub(super) fn fill(&self, picture: &[f32], to: &mut [f32]) {
        let [rows, columns] = self.inner;
        let ((top, _), (left, _)) = (self.border[0], self.border[1]);
        let (height, width) = (self.side(0), self.side(1));
        if self.border == [(0, 0); 2] {
            to.copy_from_slice(picture);
            return;
        }
        for (plane, to) in picture.chunks_exact(rows * columns).zip(to.chunks_exact_mut(height * width)) {
            to[..top * width].fill(0.0);
            to[(top + rows) * width..].fill(0.0);
            for (row, to) in plane.chunks_exact(columns).zip(to[top * width..].chunks_exact_mut(width)) {
                to[..left].fill(0.0);
                to[left..left + columns].copy_from_slice(row);
                to[left + columns..].fill(0.0);
            }
        }
    }
}
