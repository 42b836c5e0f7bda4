//! The layers that every family is made of, as nodes.

use super::build::{Builder, Value, ints};
use super::format::Attribute;
use crate::model::BATCH_NORM_EPSILON;

impl Builder {
    pub(super) fn add(&mut self, a: Value, b: Value) -> Value {
        self.node("Add", &[a, b], &[])
    }

    pub(super) fn mul(&mut self, a: Value, b: Value) -> Value {
        self.node("Mul", &[a, b], &[])
    }

    /// The same numbers in another shape: 0 keeps an axis as it is, of whatever size.
    pub(super) fn reshape(&mut self, x: Value, shape: &[i64]) -> Value {
        let shape = self.list(shape);
        self.node("Reshape", &[x, shape], &[])
    }

    /// The axes in another order.
    pub(super) fn transpose(&mut self, x: Value, order: &[usize]) -> Value {
        self.node("Transpose", &[x], &[("perm", ints(order))])
    }

    /// From `start` to before `end` of the axis 1.
    pub(super) fn narrow(&mut self, x: Value, start: usize, end: usize) -> Value {
        let inputs = [start, end, 1].map(|number| self.list(&[number as i64]));
        let [start, end, axis] = inputs;
        self.node("Slice", &[x, start, end, axis], &[])
    }

    /// Parts of these sizes along an axis.
    pub(super) fn split<const N: usize>(
        &mut self,
        x: Value,
        sizes: [usize; N],
        axis: i64,
    ) -> [Value; N] {
        let sizes = self.list(&sizes.map(|size| size as i64));
        self.nodes("Split", &[x, sizes], &[("axis", Attribute::Int(axis))])
    }

    /// A linear layer's weights, their outputs multiplied by the `factors` of the channels where there are any.
    pub(super) fn linear_scaled(&mut self, name: &str, x: Value, factors: Option<&[f32]>) -> Value {
        self.within(name, |b| {
            let (shape, mut weight) = b.take("weight");
            let (bias_shape, mut bias) = b.take("bias");
            if let Some(factors) = factors {
                for row in weight
                    .chunks_mut(factors.len())
                    .chain([bias.as_mut_slice()])
                {
                    row.iter_mut()
                        .zip(factors)
                        .for_each(|(w, factor)| *w *= factor);
                }
            }
            b.linear_of(x, "", (shape, &weight), (bias_shape, &bias))
        })
    }

    /// x·weight + bias.
    pub(super) fn linear(&mut self, name: &str, x: Value) -> Value {
        self.linear_scaled(name, x, None)
    }

    /// [`linear`](Self::linear) of numbers, for a part of a layer, which `part` names.
    pub(super) fn linear_of(
        &mut self,
        x: Value,
        part: &str,
        weight: (Vec<usize>, &[f32]),
        bias: (Vec<usize>, &[f32]),
    ) -> Value {
        let weight = self.constant(&format!("weight{part}"), weight.0, weight.1);
        let bias = self.constant(&format!("bias{part}"), bias.0, bias.1);
        let product = self.node("MatMul", &[x, weight], &[]);
        self.add(product, bias)
    }

    /// A classifier of one vector a picture: `factor`·(x·weight + bias).
    pub(super) fn head(&mut self, name: &str, x: Value, factor: f64) -> Value {
        self.within(name, |b| {
            let inputs = [x, b.tensor("weight"), b.tensor("bias")];
            let factor = Attribute::Float(factor as f32);
            match factor {
                Attribute::Float(1.0) => b.node("Gemm", &inputs, &[]),
                _ => b.node(
                    "Gemm",
                    &inputs,
                    &[("alpha", factor.clone()), ("beta", factor)],
                ),
            }
        })
    }

    /// Layer norm of the last axis; with γ alone where there is no β.
    pub(super) fn layer_norm(
        &mut self,
        x: Value,
        gamma: &str,
        beta: Option<&str>,
        epsilon: f64,
    ) -> Value {
        let mut inputs = vec![x, self.tensor(gamma)];
        inputs.extend(beta.map(|beta| self.tensor(beta)));
        let attributes = [
            ("axis", Attribute::Int(-1)),
            ("epsilon", Attribute::Float(epsilon as f32)),
        ];
        self.node("LayerNormalization", &inputs, &attributes)
    }

    pub(super) fn relu(&mut self, x: Value) -> Value {
        self.node("Relu", &[x], &[])
    }

    /// x/2·(1 + erf(x/√2)): opset 17 has no node for it. Engines know these five by their order.
    pub(super) fn gelu(&mut self, x: Value) -> Value {
        let [root, one, half] = [2f32.sqrt(), 1.0, 0.5].map(|number| self.number(number));
        let inner = self.node("Div", &[x, root], &[]);
        let inner = self.node("Erf", &[inner], &[]);
        let sum = self.add(inner, one);
        let product = self.mul(x, sum);
        self.mul(product, half)
    }

    /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    pub(super) fn gelu_tanh(&mut self, x: Value) -> Value {
        let numbers = [0.044_715, std::f32::consts::FRAC_2_PI.sqrt(), 1.0, 0.5];
        let [cubic, root, one, half] = numbers.map(|number| self.number(number));
        let square = self.mul(x, x);
        let cube = self.mul(x, square);
        let cubic = self.mul(cube, cubic);
        let sum = self.add(x, cubic);
        let inner = self.mul(sum, root);
        let tanh = self.node("Tanh", &[inner], &[]);
        let sum = self.add(tanh, one);
        let halved = self.mul(x, half);
        self.mul(halved, sum)
    }

    /// A convolution without bias and its batch norm, in one: the norm's statistics do not move any more.
    pub(super) fn conv_norm(&mut self, name: &str, x: Value, stride: usize) -> Value {
        self.within(name, |b| {
            let (shape, mut weight) = b.take("conv.weight");
            let of_norm = ["gamma", "beta", "running_mean", "running_var"];
            let [gamma, beta, mean, variance] =
                of_norm.map(|part| b.take(&format!("norm.{part}")).1);
            let mut bias = Vec::with_capacity(gamma.len());
            let filters = weight.chunks_mut(shape[1..].iter().product());
            for (i, filter) in filters.enumerate() {
                let scale =
                    f64::from(gamma[i]) / (f64::from(variance[i]) + BATCH_NORM_EPSILON).sqrt();
                for w in filter {
                    *w = (f64::from(*w) * scale) as f32;
                }
                bias.push((f64::from(beta[i]) - f64::from(mean[i]) * scale) as f32);
            }
            let kernel = shape[2];
            let weight = b.constant("conv.weight", shape, &weight);
            let bias = b.constant("conv.bias", vec![bias.len()], &bias);
            b.conv(&[x, weight, bias], kernel, stride, kernel / 2)
        })
    }

    /// A convolution of x, weight and, optionally, bias, with square kernels and the same padding at every side.
    /// Every setting is written out: not every engine knows what those that are left out stand for.
    pub(super) fn conv(
        &mut self,
        inputs: &[Value],
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Value {
        let attributes = [
            ("dilations", ints(&[1; 2])),
            ("group", Attribute::Int(1)),
            ("kernel_shape", ints(&[kernel; 2])),
            ("pads", ints(&[padding; 4])),
            ("strides", ints(&[stride; 2])),
        ];
        self.node("Conv", inputs, &attributes)
    }

    /// A convolution, its maxima over squares of 2×2, and then its batch norm: where γ is negative, the
    /// norm cannot go first.
    pub(super) fn conv_pool_norm(&mut self, name: &str, x: Value) -> Value {
        self.within(name, |b| {
            let weight = b.tensor("conv.weight");
            let x = b.conv(&[x, weight], 3, 1, 1);
            let x = b.max_pool(x, 2, 2, 0);
            let of_norm = ["gamma", "beta", "running_mean", "running_var"];
            let mut inputs = vec![x];
            inputs.extend(of_norm.map(|part| b.tensor(&format!("norm.{part}"))));
            let epsilon = Attribute::Float(BATCH_NORM_EPSILON as f32);
            b.node("BatchNormalization", &inputs, &[("epsilon", epsilon)])
        })
    }

    pub(super) fn max_pool(
        &mut self,
        x: Value,
        side: usize,
        stride: usize,
        padding: usize,
    ) -> Value {
        let attributes = [
            ("ceil_mode", Attribute::Int(0)),
            ("dilations", ints(&[1; 2])),
            ("kernel_shape", ints(&[side; 2])),
            ("pads", ints(&[padding; 4])),
            ("strides", ints(&[stride; 2])),
        ];
        self.node("MaxPool", &[x], &attributes)
    }
}
