//! What follows a norm or a convolution.

/// What follows a norm: a ReLU, a GELU or neither, and the sum with another map before or after it.
#[derive(Debug, Clone, Copy)]
pub enum Tail<T> {
    /// x.
    Plain,
    /// ReLU(x).
    Relu,
    /// GELU(x).
    Gelu,
    /// ReLU(x + other).
    AddRelu(T),
    /// GELU(x + other).
    AddGelu(T),
    /// ReLU(x) + other.
    ReluAdd(T),
}

impl<T> Tail<T> {
    /// The same with another kind of map.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Tail<U> {
        match self {
            Self::Plain => Tail::Plain,
            Self::Relu => Tail::Relu,
            Self::Gelu => Tail::Gelu,
            Self::AddRelu(x) => Tail::AddRelu(f(x)),
            Self::AddGelu(x) => Tail::AddGelu(f(x)),
            Self::ReluAdd(x) => Tail::ReluAdd(f(x)),
        }
    }

    /// With the map borrowed.
    pub fn as_ref(&self) -> Tail<&T> {
        match self {
            Self::Plain => Tail::Plain,
            Self::Relu => Tail::Relu,
            Self::Gelu => Tail::Gelu,
            Self::AddRelu(x) => Tail::AddRelu(x),
            Self::AddGelu(x) => Tail::AddGelu(x),
            Self::ReluAdd(x) => Tail::ReluAdd(x),
        }
    }
}
