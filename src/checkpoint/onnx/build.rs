//! A graph that is being built of a model's tensors, one operation after the other.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use safetensors::Dtype;

use super::format::{Attribute, Constant, Data, Kind, Node, Onnx, Port};
use crate::checkpoint::float16::encoded;
use crate::checkpoint::host::HostTensor;

/// A tensor of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value(usize);

/// The settings of a node.
pub(super) type Attributes<'a> = &'a [(&'static str, Attribute)];

/// A list of whole numbers, as a setting.
pub(super) fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&value| value as i64).collect())
}

/// A graph under construction.
///
/// Values have names, in which it can be read: those of the model's tensors are their paths, and a node is
/// called by where it stands and what it does, such as `Vit.blocks.0.attention.MatMul`.
#[derive(Debug)]
pub(super) struct Builder {
    /// The model's tensors that have no place in the graph yet.
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Whether tables, matrices and convolutions are stored in f16.
    half: bool,
    nodes: Vec<Node>,
    constants: Vec<Constant<'static>>,
    input: Port,
    names: Vec<String>,
    /// Where the next node stands.
    scope: Vec<String>,
    /// How many have a name already.
    taken: HashMap<String, usize>,
    /// Constants that several nodes may share, by name.
    known: HashMap<String, Value>,
}

impl Builder {
    /// A graph without nodes, and its input.
    pub(super) fn new(tensors: Vec<HostTensor>, half: bool, input: Port) -> (Self, Value) {
        let weights = tensors.into_iter();
        let builder = Self {
            weights: weights
                .map(|(path, shape, values)| (path, (shape, values)))
                .collect(),
            half,
            nodes: Vec::new(),
            constants: Vec::new(),
            names: vec![input.name.clone()],
            taken: HashMap::from([(input.name.clone(), 1)]),
            input,
            scope: Vec::new(),
            known: HashMap::new(),
        };
        (builder, Value(0))
    }

    /// The graph, with the values that come out.
    ///
    /// # Panics
    ///
    /// Where a tensor of the model has no place in it: it would answer differently.
    pub(super) fn finish(
        mut self,
        outputs: Vec<(Port, Value)>,
        name: String,
        version: String,
        metadata: Vec<(String, String)>,
    ) -> Onnx<'static> {
        let left: Vec<&String> = self.weights.keys().collect();
        assert!(left.is_empty(), "the graph lacks {left:?}");
        for (port, value) in &outputs {
            let old = &self.names[value.0];
            let names = self.nodes.iter_mut();
            let names = names.flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs));
            for name in names.filter(|name| *name == old) {
                name.clone_from(&port.name);
            }
        }
        Onnx {
            name,
            version,
            nodes: self.nodes,
            constants: self.constants,
            input: self.input,
            outputs: outputs.into_iter().map(|(port, _)| port).collect(),
            metadata,
        }
    }

    /// What `build` adds, and the tensors it names, in the field `name`.
    pub(super) fn within<T>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.to_owned());
        let built = build(self);
        self.scope.pop();
        built
    }

    fn path(&self, name: &str) -> String {
        let fields = self.scope.iter().map(String::as_str);
        fields.chain([name]).collect::<Vec<_>>().join(".")
    }

    fn fresh(&mut self, name: String) -> String {
        let count = self.taken.entry(name.clone()).or_default();
        *count += 1;
        match *count {
            1 => name,
            count => self.fresh(format!("{name}_{count}")),
        }
    }

    fn value(&mut self, name: String) -> Value {
        self.names.push(name);
        Value(self.names.len() - 1)
    }

    /// Takes a tensor of the model, to be changed before it is a constant.
    ///
    /// # Panics
    ///
    /// Where the model has none of that path, or it has been taken.
    pub(super) fn take(&mut self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let path = self.path(name);
        let found = self.weights.remove(&path);
        found.unwrap_or_else(|| panic!("{path} is not one of the model's tensors"))
    }

    /// A tensor of the model, as it is; two nodes may share it.
    pub(super) fn tensor(&mut self, name: &str) -> Value {
        let path = self.path(name);
        if let Some(known) = self.known.get(&path) {
            return *known;
        }
        let (shape, values) = self.take(name);
        let value = self.constant(name, shape, &values);
        self.known.insert(path, value);
        value
    }

    /// A constant that comes of weights.
    pub(super) fn constant(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) -> Value {
        let path = self.path(name);
        let name = self.fresh(path);
        let (kind, bytes) = match self.half {
            true => encoded(&shape, values),
            false => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (Dtype::F32, bytes.collect())
            }
        };
        if kind == Dtype::F32 {
            self.store(name.clone(), Kind::F32, shape, bytes);
            return self.value(name);
        }
        let narrow = self.fresh(format!("{name}.f16"));
        self.store(narrow.clone(), Kind::F16, shape, bytes);
        let narrow = self.value(narrow);
        let to = [("to", Attribute::Int(Kind::F32 as i64))];
        self.named(name, "Cast", &[narrow], &to)
    }

    /// A single number.
    pub(super) fn number(&mut self, value: f32) -> Value {
        let name = format!("number.{value}");
        self.shared(name, Kind::F32, Vec::new(), value.to_le_bytes().to_vec())
    }

    /// A list of whole numbers, as an input.
    pub(super) fn list(&mut self, values: &[i64]) -> Value {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        let name = format!("list.{}", words.join("."));
        self.shared(name, Kind::I64, vec![values.len()], bytes.collect())
    }

    /// Numbers that are no weights, and stay in f32: every node that asks for this name shares them.
    pub(super) fn table(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.shared(name.to_owned(), Kind::F32, shape, bytes.collect())
    }

    /// A constant that every node with the same one shares.
    fn shared(&mut self, name: String, kind: Kind, shape: Vec<usize>, bytes: Vec<u8>) -> Value {
        if let Some(known) = self.known.get(&name) {
            return *known;
        }
        self.store(name.clone(), kind, shape, bytes);
        let value = self.value(name.clone());
        self.known.insert(name, value);
        value
    }

    fn store(&mut self, name: String, kind: Kind, shape: Vec<usize>, bytes: Vec<u8>) {
        self.constants.push(Constant {
            name,
            kind,
            shape,
            data: Data::Here(Cow::Owned(bytes)),
        });
    }

    /// A node with one output.
    pub(super) fn node(&mut self, op: &str, inputs: &[Value], attributes: Attributes<'_>) -> Value {
        let path = self.path(op);
        let name = self.fresh(path);
        self.named(name, op, inputs, attributes)
    }

    fn named(
        &mut self,
        name: String,
        op: &str,
        inputs: &[Value],
        attributes: Attributes<'_>,
    ) -> Value {
        let output = self.value(name.clone());
        self.push(name, op, inputs, &[output], attributes);
        output
    }

    /// A node with several outputs.
    pub(super) fn nodes<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[Value],
        attributes: Attributes<'_>,
    ) -> [Value; N] {
        let path = self.path(op);
        let name = self.fresh(path);
        let outputs = std::array::from_fn(|i| self.value(format!("{name}.{i}")));
        self.push(name, op, inputs, &outputs, attributes);
        outputs
    }

    fn push(
        &mut self,
        name: String,
        op: &str,
        inputs: &[Value],
        outputs: &[Value],
        attributes: Attributes<'_>,
    ) {
        let names = |values: &[Value]| values.iter().map(|v| self.names[v.0].clone()).collect();
        let node = Node {
            name,
            op: op.to_owned(),
            inputs: names(inputs),
            outputs: names(outputs),
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        };
        self.nodes.push(node);
    }
}
