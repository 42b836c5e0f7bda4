//! Operations of Burn's functions whose gradient is made of Burn's functions too, instead of by
//! Burn's differentiation: on a GPU each pass is a kernel to start, and it starts several for one.

use std::fmt;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, TensorMetadata};
use burn::tensor::{Shape, Tensor};

/// Where such operations run.
pub(super) trait Place: Backend {
    /// A tensor with its place in the graph.
    fn tracked<const R: usize>(x: &Tensor<R>) -> FloatTensor<Autodiff<Self>>;

    /// The result of an operation, in the graph.
    fn recorded<const R: usize>(x: FloatTensor<Autodiff<Self>>) -> Tensor<R>;

    /// A tensor outside the graph.
    fn plain<const R: usize>(x: Tensor<R>) -> FloatTensor<Self>;

    /// The way back.
    fn tensor<const R: usize>(x: FloatTensor<Self>) -> Tensor<R>;
}

macro_rules! place {
    ($backend:ty) => {
        impl Place for $backend {
            fn tracked<const R: usize>(x: &Tensor<R>) -> FloatTensor<Autodiff<Self>> {
                x.clone()
                    .try_into_primitive::<Autodiff<Self>>()
                    .expect("the caller knows that the tensor is here, with autodiff")
            }

            fn recorded<const R: usize>(x: FloatTensor<Autodiff<Self>>) -> Tensor<R> {
                Tensor::from_primitive::<Autodiff<Self>>(x)
            }

            fn plain<const R: usize>(x: Tensor<R>) -> FloatTensor<Self> {
                x.try_into_primitive::<Self>()
                    .expect("the caller knows that the tensor is here, without autodiff")
            }

            fn tensor<const R: usize>(x: FloatTensor<Self>) -> Tensor<R> {
                Tensor::from_primitive::<Self>(x)
            }
        }
    };
}

// Every GPU, whatever its driver.
place!(Cube);
// Where tests hold such an operation against Burn's own differentiation.
#[cfg(all(test, feature = "cpu"))]
place!(burn::backend::Flex);

/// Whether `x` is on a GPU, with autodiff.
pub(super) fn on_gpu<const R: usize>(x: &Tensor<R>) -> bool {
    x.clone().try_into_primitive::<Autodiff<Cube>>().is_ok()
}

/// One input of an operation.
pub(super) struct Input<B: Place> {
    tracked: FloatTensor<Autodiff<B>>,
    shape: Shape,
}

impl<B: Place, const R: usize> From<&Tensor<R>> for Input<B> {
    fn from(x: &Tensor<R>) -> Self {
        Self {
            tracked: B::tracked(x),
            shape: x.shape(),
        }
    }
}

/// The gradient of one input, with as many values as it has.
pub(super) struct Gradient<B: Place>(FloatTensor<B>);

impl<B: Place, const R: usize> From<Tensor<R>> for Gradient<B> {
    fn from(x: Tensor<R>) -> Self {
        Self(B::plain(x))
    }
}

/// The result of an operation on `inputs`, worked out without a graph, whose `gradient` turns the
/// gradient of the result into those of the inputs, in their order.
pub(super) fn record<B: Place, const N: usize, const R: usize>(
    inputs: [Input<B>; N],
    result: Tensor<R>,
    gradient: impl FnOnce(Tensor<R>) -> [Gradient<B>; N] + Send + 'static,
) -> Tensor<R> {
    let nodes = inputs.each_ref().map(|input| input.tracked.node());
    let step = Step::<B, N, R> {
        gradient: Box::new(gradient),
        shapes: inputs.map(|input| input.shape),
    };
    let output = step
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateless(B::plain(result));
    B::recorded(output)
}

type Gradients<B, const N: usize, const R: usize> =
    Box<dyn FnOnce(Tensor<R>) -> [Gradient<B>; N] + Send>;

struct Step<B: Place, const N: usize, const R: usize> {
    gradient: Gradients<B, N, R>,
    shapes: [Shape; N],
}

impl<B: Place, const N: usize, const R: usize> fmt::Debug for Step<B, N, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("shapes", &self.shapes)
            .finish()
    }
}

impl<B: Place, const N: usize, const R: usize> Backward<B, N> for Step<B, N, R> {
    type State = ();

    fn backward(self, ops: Ops<(), N>, grads: &mut grads::Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let gradients = (self.gradient)(B::tensor(dy));
        for ((parent, shape), Gradient(dx)) in
            ops.parents.into_iter().zip(self.shapes).zip(gradients)
        {
            let Some(parent) = parent else { continue };
            let dx = if dx.shape() == shape {
                dx
            } else {
                B::float_reshape(dx, shape)
            };
            grads.register::<B>(parent.id, dx);
        }
    }
}
