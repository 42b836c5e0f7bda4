//! How an operation of ours stands in Burn's graph: tensors to slices and back, and a gradient
//! that is a closure.

use std::fmt;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Element, FloatDType, Shape, Tensor, TensorData};

use vitrine_kernels::Operand;

/// A tensor's values, contiguous, shared with the tensor and not copied where they already are.
#[derive(Debug, Clone)]
pub(crate) struct Values(FloatTensor<Flex>);

impl Values {
    /// The tensor itself.
    pub(crate) fn primitive(&self) -> FloatTensor<Flex> {
        self.0.clone()
    }

    /// As a slice.
    ///
    /// # Panics
    ///
    /// Where the tensor is of another type: our own bug.
    pub(crate) fn get<E: Operand + Element>(&self) -> &[E] {
        self.0
            .as_slice()
            .expect("contiguous values of the type that the operation stored")
    }
}

/// The values of a tensor on flex, its history left behind.
pub(crate) fn values<const R: usize>(x: &Tensor<R>) -> Values {
    let x = if x.is_autodiff() {
        x.clone().inner()
    } else {
        x.clone()
    };
    let primitive = x
        .try_into_primitive::<Flex>()
        .expect("the caller knows that the tensor is on flex");
    Values(primitive.to_contiguous())
}

/// The values of a flat tensor without history, to be changed: copied where they are shared.
#[derive(Debug)]
pub(crate) struct Owned(FloatTensor<Flex>);

impl Owned {
    /// Takes a tensor on flex.
    pub(crate) fn new(x: Tensor<1>) -> Self {
        let len = x.dims()[0];
        let primitive = x
            .try_into_primitive::<Flex>()
            .expect("the caller knows that the tensor is on flex");
        let whole = primitive.is_contiguous() && primitive.storage::<f32>().len() == len;
        Self(if whole {
            primitive
        } else {
            let values = Values(primitive.to_contiguous());
            self::primitive(values.get::<f32>().to_vec(), [len])
        })
    }

    /// As a slice.
    pub(crate) fn get(&mut self) -> &mut [f32] {
        self.0.storage_mut()
    }

    /// Back to a tensor.
    pub(crate) fn tensor(self) -> Tensor<1> {
        Tensor::from_primitive::<Flex>(self.0)
    }
}

/// A tensor without history.
pub(crate) fn tensor<const R: usize>(values: Vec<f32>, shape: [usize; R]) -> Tensor<R> {
    tensor_of(values, shape)
}

/// A tensor without history, of any type.
pub(crate) fn tensor_of<E: Stored, const R: usize>(values: Vec<E>, shape: [usize; R]) -> Tensor<R> {
    Tensor::from_primitive::<Flex>(primitive(values, shape))
}

fn primitive<E: Stored>(values: Vec<E>, shape: impl Into<Shape>) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape.into()))
}

/// A type that tensors and kernels both hold.
pub(crate) trait Stored: Operand + Element {
    /// Burn's name for it.
    const TYPE: FloatDType;
}

impl Stored for f32 {
    const TYPE: FloatDType = FloatDType::F32;
}

impl Stored for half::bf16 {
    const TYPE: FloatDType = FloatDType::BF16;
}

/// The tensor with its values in another type, where they are not already.
pub(crate) fn stored<E: Stored, const R: usize>(x: Tensor<R>) -> Tensor<R> {
    if x.dtype() == E::dtype() {
        x
    } else {
        x.cast(E::TYPE)
    }
}

/// One input of an operation, with its place in the graph.
#[derive(Debug)]
pub(crate) struct Input {
    tracked: FloatTensor<Autodiff<Flex>>,
    shape: Shape,
}

impl Input {
    /// Whether its gradient is needed.
    pub(crate) fn is_tracked(&self) -> bool {
        self.tracked.is_tracked()
    }
}

impl<const R: usize> From<&Tensor<R>> for Input {
    fn from(x: &Tensor<R>) -> Self {
        let tracked = x
            .clone()
            .try_into_primitive::<Autodiff<Flex>>()
            .expect("the caller knows that the tensor is on flex with autodiff");
        Self {
            tracked,
            shape: x.shape(),
        }
    }
}

/// The result of an operation on `inputs`, whose `gradient` turns the gradient of the result into
/// those of the inputs, in their order and with as many values as they have.
///
/// An input that needs no gradient may get an empty vector.
pub(crate) fn record<const N: usize, const R: usize>(
    inputs: [Input; N],
    result: Vec<f32>,
    shape: [usize; R],
    gradient: impl FnOnce(&[f32]) -> [Vec<f32>; N] + Send + 'static,
) -> Tensor<R> {
    record_tensor(inputs, tensor(result, shape), |dy| {
        gradient(dy.get()).map(|dx| Some(self::gradient(dx)))
    })
}

/// The gradient of one input; `None` where it needs none.
pub(crate) type Gradient = Option<FloatTensor<Flex>>;

/// A gradient from its values.
pub(crate) fn gradient<E: Stored>(values: Vec<E>) -> FloatTensor<Flex> {
    let len = values.len();
    primitive(values, [len])
}

/// [`record`] for tensors of any type; the result has no history yet.
pub(crate) fn record_tensor<const N: usize, const R: usize>(
    inputs: [Input; N],
    result: Tensor<R>,
    gradient: impl FnOnce(&Values) -> [Gradient; N] + Send + 'static,
) -> Tensor<R> {
    let nodes = inputs.each_ref().map(|input| input.tracked.node());
    let shapes = inputs.map(|input| input.shape);
    let step = Step {
        gradient: Box::new(gradient),
        shapes,
    };
    let result = result
        .try_into_primitive::<Flex>()
        .expect("an operation's result is on flex, without history");
    let output = step
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateless(result);
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

type Gradients<const N: usize> = Box<dyn FnOnce(&Values) -> [Gradient; N] + Send>;

struct Step<const N: usize> {
    gradient: Gradients<N>,
    shapes: [Shape; N],
}

impl<const N: usize> fmt::Debug for Step<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("shapes", &self.shapes)
            .finish()
    }
}

impl<const N: usize> Backward<Flex, N> for Step<N> {
    type State = ();

    fn backward(self, ops: Ops<(), N>, grads: &mut grads::Gradients, _: &mut Checkpointer) {
        let dy = Values(grads.consume::<Flex>(&ops.node).to_contiguous());
        let gradients = (self.gradient)(&dy);
        for ((parent, shape), gradient) in ops.parents.into_iter().zip(self.shapes).zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, Flex::float_reshape(gradient, shape));
            }
        }
    }
}
