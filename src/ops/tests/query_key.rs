//! Attention whose queries and keys are normed and turned before they meet.

use super::*;

/// Which of them happen.
#[derive(Debug, Clone, Copy)]
struct Case {
    shape: Reference,
    norm: bool,
    /// Whether the norms have a β.
    shift: bool,
    rotation: bool,
}

impl Case {
    fn all(shape: Reference) -> [Self; 5] {
        [
            (true, false, false),
            (false, false, true),
            (true, false, true),
            (true, true, false),
            (true, true, true),
        ]
        .map(|(norm, shift, rotation)| Self {
            // Apart from that of the branch's norm and all others.
            shape: Reference {
                epsilon: if shift { 0.02 } else { EPSILON },
                ..shape
            },
            norm,
            shift,
            rotation,
        })
    }

    fn head_dim(&self) -> usize {
        self.shape.width / self.shape.heads
    }

    /// Cosines and sines of any angles.
    fn table(&self) -> Vec<f32> {
        let half = self.head_dim() / 2;
        let angles = numbers(self.shape.tokens * half, 31);
        angles
            .chunks_exact(half)
            .flat_map(|row| {
                let cosines = row.iter().map(|a| (3.0 * a).cos());
                cosines.chain(row.iter().map(|a| (3.0 * a).sin()))
            })
            .collect()
    }

    /// Those of the plain branch, then both γ, then both β.
    fn inputs(&self) -> Vec<Vec<f32>> {
        let mut inputs = self.shape.inputs(true);
        for (seed, centre) in [(41, 1.0), (42, 1.0), (43, 0.0), (44, 0.0)] {
            let of_norm = numbers(self.head_dim(), seed);
            inputs.push(of_norm.iter().map(|v| centre + 0.5 * v).collect());
        }
        inputs
    }

    /// How many of the inputs have a gradient. A shift of all keys alike changes no softmax: the
    /// gradient of their β is nothing but rounding, unless keys are turned.
    fn tracked(&self) -> usize {
        match (self.norm, self.shift, self.rotation) {
            (true, true, true) => 11,
            (true, true, false) => 10,
            (true, false, _) => 9,
            _ => 7,
        }
    }

    /// In f64, as the formulas stand.
    fn reference(&self, v: &Inputs, keep: &[f32]) -> Vec<f64> {
        let Reference { width, tokens, .. } = self.shape;
        let head_dim = self.head_dim();
        let table = self.table();
        let heads = Reference {
            width: head_dim,
            ..self.shape
        };
        let mut qkv = Reference::affine(&self.shape.normed(&v[0], &v[1], &v[2]), &v[3], &v[4]);
        for (row, line) in qkv.chunks_exact_mut(3 * width).enumerate() {
            for (i, x) in line[..2 * width].chunks_exact_mut(head_dim).enumerate() {
                if self.norm {
                    let part = i / self.shape.heads;
                    let none = vec![0.0; head_dim];
                    let beta = if self.shift { &v[9 + part] } else { &none };
                    let normed = heads.normed(x, &v[7 + part], beta);
                    x.copy_from_slice(&normed);
                }
                if self.rotation {
                    let table = &table[row % tokens * head_dim..][..head_dim];
                    for (a, b) in (0..head_dim / 2).map(|i| (i, i + head_dim / 2)) {
                        let [cosine, sine] = [a, b].map(|i| f64::from(table[i]));
                        (x[a], x[b]) = (x[a] * cosine - x[b] * sine, x[b] * cosine + x[a] * sine);
                    }
                }
            }
        }
        self.shape.mixed(v, &qkv, None, keep)
    }

    /// Output, and gradients of Σ weight·output where `device` has any.
    fn run(
        &self,
        inputs: &[Vec<f32>],
        keep: Option<&[f32]>,
        precision: Precision,
        composed: bool,
        device: &Device,
    ) -> (Vec<f32>, Vec<Vec<f32>>) {
        let (w, rows) = (self.shape.width, self.shape.batch * self.shape.tokens);
        let tensor = |i: usize| {
            let values = Tensor::<1>::from_floats(inputs[i].as_slice(), device);
            match device.is_autodiff() {
                true => values.require_grad(),
                false => values,
            }
        };
        let v: Vec<Tensor<1>> = (0..11).map(tensor).collect();
        let matrix = |i: usize, shape: [usize; 2]| v[i].clone().reshape(shape);
        let x = matrix(0, [rows, w]);
        let branch = Branch {
            norm: Scale {
                gamma: v[1].clone(),
                beta: v[2].clone(),
                epsilon: self.shape.epsilon,
            },
            first: Affine {
                weight: matrix(3, [w, 3 * w]),
                bias: v[4].clone(),
            },
            second: Affine {
                weight: matrix(5, [w, w]),
                bias: v[6].clone(),
            },
            keep: keep.map(<[f32]>::to_vec),
            precision,
            prepared: None,
        };
        let table = TensorData::new(self.table(), [self.shape.tokens, self.head_dim()]);
        let query_key = QueryKey {
            norm: self.norm.then(|| {
                [0, 1].map(|part| RowNorm {
                    gamma: v[7 + part].clone(),
                    beta: self.shift.then(|| v[9 + part].clone()),
                    epsilon: self.shape.epsilon,
                })
            }),
            rotation: self.rotation.then(|| Tensor::from_data(table, device)),
        };
        let heads = Heads {
            batch: self.shape.batch,
            heads: self.shape.heads,
            queries: self.shape.queries,
        };
        let run = match composed {
            true => attention::composed,
            false => attention::add_attention,
        };
        let y = run(x, &branch, heads, &query_key, None);
        if !device.is_autodiff() {
            return (host(y), Vec::new());
        }
        let weight = TensorData::new(numbers(y.shape().num_elements(), 5), y.dims());
        let loss = (y.clone() * Tensor::from_data(weight, device)).sum();
        let gradients = loss.backward();
        let of = |v: &Tensor<1>| host(v.grad(&gradients).unwrap());
        if self.shift && precision == Precision::F32 {
            let largest = |i: usize| of(&v[i]).iter().fold(0.0_f32, |m, g| m.max(g.abs()));
            assert_eq!(largest(10) > 1e-3 * largest(9), self.rotation, "{self:?}");
        }
        (
            host(y.inner()),
            v[..self.tracked()].iter().map(of).collect(),
        )
    }
}

const ODD: [Reference; 3] = [
    Reference {
        batch: 2,
        tokens: 5,
        width: 24,
        heads: 3,
        hidden: 0,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
    Reference {
        batch: 3,
        tokens: 67,
        width: 40,
        heads: 2,
        hidden: 0,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
    Reference {
        batch: 9,
        tokens: 64,
        width: 64,
        heads: 1,
        hidden: 0,
        epsilon: EPSILON,
        activation: Activation::Gelu,
        queries: None,
    },
];

/// Only the first two tokens of a picture are queries.
const FIRST_TWO: Reference = Reference {
    queries: Some(2),
    ..ODD[0]
};

#[test]
fn the_kernel_equals_the_composed_form() {
    for case in ODD.into_iter().chain([FIRST_TWO]).flat_map(Case::all) {
        let (inputs, keep) = (case.inputs(), keeps(case.shape.batch));
        let of =
            |precision, composed| case.run(&inputs, Some(&keep), precision, composed, &device());
        let (expected, expected_gradients) = of(Precision::F32, true);
        for (precision, tolerance) in [(Precision::F32, 3e-5), (Precision::Bf16, 0.05)] {
            let (found, gradients) = of(precision, false);
            close(&found, &expected, tolerance, "output");
            assert_eq!(gradients.len(), expected_gradients.len());
            for (i, (a, b)) in gradients.iter().zip(&expected_gradients).enumerate() {
                close(
                    a,
                    b,
                    tolerance,
                    &format!("gradient {i} {precision:?} {case:?}"),
                );
            }
        }
    }
}

#[test]
fn gradients_equal_finite_differences_in_f64() {
    let keep = [1.25, 0.5];
    for case in [Case::all(ODD[0]), Case::all(FIRST_TWO)].concat() {
        let inputs = case.inputs();
        let (found, gradients) = case.run(&inputs, Some(&keep), Precision::F32, false, &device());
        let wide: Inputs = inputs
            .iter()
            .map(|v| v.iter().map(|&x| f64::from(x)).collect())
            .collect();
        let output = |v: &Inputs| case.reference(v, &keep);
        let expected: Vec<f32> = output(&wide).iter().map(|&v| v as f32).collect();
        close(&found, &expected, 1e-5, "output");
        slopes(&wide, &gradients, output);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for case in Case::all(Reference {
        batch: 21,
        ..ODD[1]
    }) {
        let (inputs, keep) = (case.inputs(), keeps(21));
        for precision in [Precision::F32, Precision::Bf16] {
            let on = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap()
                    .install(|| case.run(&inputs, Some(&keep), precision, false, &device()))
            };
            let one = on(1);
            assert!(one == on(2) && one == on(3) && one == on(16));
        }
    }
}

#[test]
fn inference_gives_the_bits_of_training_and_equals_its_composed_form() {
    // Pictures few and many: the kernel takes them block by block or one by one.
    for batch in [1, 9] {
        for case in Case::all(Reference { batch, ..ODD[1] }) {
            let inputs = case.inputs();
            let of = |composed, device: &Device| {
                case.run(&inputs, None, Precision::F32, composed, device).0
            };
            let found = of(false, &Device::flex());
            assert_eq!(found, of(false, &device()), "the bits of training");
            close(&found, &of(true, &Device::flex()), 3e-5, "composed");
        }
    }
}
