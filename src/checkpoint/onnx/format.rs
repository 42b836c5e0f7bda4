//! An ONNX model: its nodes, constants and metadata, and how they are written and read (`onnx.proto3` of
//! ONNX 1.12, IR version 8).

use std::borrow::Cow;
use std::collections::HashSet;

use super::message::{Field, Message, fields};

/// The opset's number: 17 is the first that has LayerNormalization, and is read by whatever is in use.
const OPSET: i64 = 17;
/// The IR version that goes with it.
const IR_VERSION: i64 = 8;
/// The name of the axis that is not fixed.
const BATCH: &str = "batch";

/// How the numbers of a tensor are stored, with ONNX's numbers for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32 = 1,
    U8 = 2,
    I64 = 7,
    F16 = 10,
}

impl Kind {
    fn of(number: i64) -> Option<Self> {
        let all = [Self::F32, Self::U8, Self::I64, Self::F16];
        all.into_iter().find(|kind| *kind as i64 == number)
    }

    fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }
}

/// Where the bytes of a constant are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data<'a> {
    /// In the model, lowest byte of a number first.
    Here(Cow<'a, [u8]>),
    /// In the file of this name beside it.
    Beside {
        file: String,
        offset: u64,
        length: usize,
    },
}

/// A tensor that is part of the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant<'a> {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
    pub(super) data: Data<'a>,
}

impl Constant<'_> {
    /// Numbers in it.
    pub(super) fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn length(&self) -> usize {
        self.count() * self.kind.size()
    }
}

/// A setting of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Float(f32),
    Int(i64),
    Ints(Vec<i64>),
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) op: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Vec<(String, Attribute)>,
}

/// What goes in or comes out: of any number of pictures, each of this shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) shape: Vec<usize>,
}

/// A whole model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Onnx<'a> {
    pub(super) name: String,
    /// Vitrine's version.
    pub(super) version: String,
    pub(super) nodes: Vec<Node>,
    pub(super) constants: Vec<Constant<'a>>,
    pub(super) input: Port,
    pub(super) outputs: Vec<Port>,
    pub(super) metadata: Vec<(String, String)>,
}

/// The producer's name.
const PRODUCER: &str = "vitrine";

impl Onnx<'_> {
    /// What is wrong with the graph, if anything: each name is made once and before it is used, every constant
    /// is used and as long as its shape says, every output is made.
    pub(super) fn fault(&self) -> Option<String> {
        let mut made = HashSet::from([self.input.name.as_str()]);
        for constant in &self.constants {
            let length = match &constant.data {
                Data::Here(bytes) => bytes.len(),
                Data::Beside { length, .. } => *length,
            };
            if length != constant.length() {
                return Some(format!(
                    "{} has {length} bytes, expected {}",
                    constant.name,
                    constant.length()
                ));
            }
            if !made.insert(&constant.name) {
                return Some(format!("{} is there twice", constant.name));
            }
        }
        let mut used = HashSet::new();
        for node in &self.nodes {
            for input in &node.inputs {
                if !made.contains(input.as_str()) {
                    return Some(format!("{} takes {input}, which is not there", node.name));
                }
                used.insert(input.as_str());
            }
            for output in &node.outputs {
                if !made.insert(output) {
                    return Some(format!("{output} is there twice"));
                }
            }
        }
        used.extend(self.outputs.iter().map(|port| port.name.as_str()));
        let mut unused = self.constants.iter().map(|c| c.name.as_str());
        if let Some(unused) = unused.find(|name| !used.contains(name)) {
            return Some(format!("nothing takes {unused}"));
        }
        let mut outputs = self.outputs.iter().map(|port| port.name.as_str());
        let missing = outputs.find(|name| !made.contains(name));
        missing.map(|name| format!("the output {name} is not there"))
    }

    /// As a message of `ModelProto`.
    pub(super) fn encode(&self) -> Message<'_> {
        let mut graph = Message::default();
        for node in &self.nodes {
            graph.message(1, node.encode());
        }
        graph.text(2, &self.name);
        for constant in &self.constants {
            graph.message(5, constant.encode());
        }
        graph.message(11, self.input.encode());
        for output in &self.outputs {
            graph.message(12, output.encode());
        }
        let mut opset = Message::default();
        opset.text(1, "");
        opset.int(2, OPSET);
        let mut model = Message::default();
        model.int(1, IR_VERSION);
        model.text(2, PRODUCER);
        model.text(3, &self.version);
        model.message(7, graph);
        model.message(8, opset);
        for (key, value) in &self.metadata {
            model.message(14, entry(key, value));
        }
        model
    }
}

impl<'a> Onnx<'a> {
    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (mut graph, mut version, mut metadata) = (None, None, Vec::new());
        for (number, field) in fields(bytes)? {
            match number {
                1 if field.int()? == IR_VERSION => {}
                2 if field.bytes()? == PRODUCER.as_bytes() => {}
                3 => version = Some(field.text()?),
                7 => graph = Some(field.bytes()?),
                8 => {
                    let opset = fields(field.bytes()?)?;
                    (opset.last()? == &(2, Field::Int(OPSET))).then_some(())?;
                }
                14 => metadata.push(decode_entry(field.bytes()?)?),
                _ => return None,
            }
        }
        let (mut name, mut input) = (None, None);
        let (mut nodes, mut constants, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (number, field) in fields(graph?)? {
            match number {
                1 => nodes.push(Node::decode(field.bytes()?)?),
                2 => name = Some(field.text()?),
                5 => constants.push(Constant::decode(field.bytes()?)?),
                11 => input = Some(Port::decode(field.bytes()?)?),
                12 => outputs.push(Port::decode(field.bytes()?)?),
                _ => return None,
            }
        }
        Some(Self {
            name: name?,
            version: version?,
            nodes,
            constants,
            input: input?,
            outputs,
            metadata,
        })
    }
}

/// A `StringStringEntryProto`.
fn entry(key: &str, value: &str) -> Message<'static> {
    let mut entry = Message::default();
    entry.text(1, key);
    entry.text(2, value);
    entry
}

fn decode_entry(bytes: &[u8]) -> Option<(String, String)> {
    match fields(bytes)?.as_slice() {
        [(1, key), (2, value)] => Some((key.text()?, value.text()?)),
        _ => None,
    }
}

impl Node {
    fn encode(&self) -> Message<'static> {
        let mut node = Message::default();
        for input in &self.inputs {
            node.text(1, input);
        }
        for output in &self.outputs {
            node.text(2, output);
        }
        node.text(3, &self.name);
        node.text(4, &self.op);
        for (name, value) in &self.attributes {
            let mut attribute = Message::default();
            attribute.text(1, name);
            let kind = match value {
                Attribute::Float(value) => {
                    attribute.float(2, *value);
                    1
                }
                Attribute::Int(value) => {
                    attribute.int(3, *value);
                    2
                }
                Attribute::Ints(values) => {
                    for &value in values {
                        attribute.int(8, value);
                    }
                    7
                }
            };
            attribute.int(20, kind);
            node.message(5, attribute);
        }
        node
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut name, mut op) = (None, None);
        let (mut inputs, mut outputs, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        for (number, field) in fields(bytes)? {
            match number {
                1 => inputs.push(field.text()?),
                2 => outputs.push(field.text()?),
                3 => name = Some(field.text()?),
                4 => op = Some(field.text()?),
                5 => attributes.push(decode_attribute(field.bytes()?)?),
                _ => return None,
            }
        }
        Some(Self {
            name: name?,
            op: op?,
            inputs,
            outputs,
            attributes,
        })
    }
}

fn decode_attribute(bytes: &[u8]) -> Option<(String, Attribute)> {
    let (mut name, mut kind) = (None, None);
    let (mut float, mut int, mut ints) = (None, None, Vec::new());
    for (number, field) in fields(bytes)? {
        match number {
            1 => name = Some(field.text()?),
            2 => float = Some(field.float()?),
            3 => int = Some(field.int()?),
            8 => ints.push(field.int()?),
            20 => kind = Some(field.int()?),
            _ => return None,
        }
    }
    let value = match kind? {
        1 => Attribute::Float(float?),
        2 => Attribute::Int(int?),
        7 => Attribute::Ints(ints),
        _ => return None,
    };
    Some((name?, value))
}

impl Constant<'_> {
    fn encode(&self) -> Message<'_> {
        let mut tensor = Message::default();
        for &dimension in &self.shape {
            tensor.int(1, dimension as i64);
        }
        tensor.int(2, self.kind as i64);
        tensor.text(8, &self.name);
        match &self.data {
            Data::Here(bytes) => tensor.bytes(9, bytes),
            Data::Beside {
                file,
                offset,
                length,
            } => {
                tensor.message(13, entry("location", file));
                tensor.message(13, entry("offset", &offset.to_string()));
                tensor.message(13, entry("length", &length.to_string()));
                tensor.int(14, 1);
            }
        }
        tensor
    }
}

impl<'a> Constant<'a> {
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (mut name, mut kind, mut data) = (None, None, None);
        let (mut shape, mut external) = (Vec::new(), Vec::new());
        for (number, field) in fields(bytes)? {
            match number {
                1 => shape.push(usize::try_from(field.int()?).ok()?),
                2 => kind = Some(Kind::of(field.int()?)?),
                8 => name = Some(field.text()?),
                9 => data = Some(Data::Here(Cow::Borrowed(field.bytes()?))),
                13 => external.push(decode_entry(field.bytes()?)?),
                14 if field.int()? == 1 => {}
                _ => return None,
            }
        }
        if data.is_none() {
            let [(_, file), (_, offset), (_, length)] = external.try_into().ok()?;
            data = Some(Data::Beside {
                file,
                offset: offset.parse().ok()?,
                length: length.parse().ok()?,
            });
        }
        Some(Self {
            name: name?,
            kind: kind?,
            shape,
            data: data?,
        })
    }
}

impl Port {
    fn encode(&self) -> Message<'static> {
        let mut shape = Message::default();
        let mut batch = Message::default();
        batch.text(2, BATCH);
        shape.message(1, batch);
        for &dimension in &self.shape {
            let mut fixed = Message::default();
            fixed.int(1, dimension as i64);
            shape.message(1, fixed);
        }
        let mut tensor = Message::default();
        tensor.int(1, self.kind as i64);
        tensor.message(2, shape);
        let mut kind = Message::default();
        kind.message(1, tensor);
        let mut port = Message::default();
        port.text(1, &self.name);
        port.message(2, kind);
        port
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let port = fields(bytes)?;
        let [(1, name), (2, kind)] = port.as_slice() else {
            return None;
        };
        let kind = fields(kind.bytes()?)?;
        let [(1, tensor)] = kind.as_slice() else {
            return None;
        };
        let tensor = fields(tensor.bytes()?)?;
        let [(1, kind), (2, shape)] = tensor.as_slice() else {
            return None;
        };
        let dimensions = fields(shape.bytes()?)?;
        let (batch, dimensions) = dimensions.split_first()?;
        (fields(batch.1.bytes()?)? == [(2, Field::Bytes(BATCH.as_bytes()))]).then_some(())?;
        let fixed = |(_, dimension): &(u64, Field<'_>)| match fields(dimension.bytes()?)?.as_slice()
        {
            [(1, size)] => usize::try_from(size.int()?).ok(),
            _ => None,
        };
        Some(Self {
            name: name.text()?,
            kind: Kind::of(kind.int()?)?,
            shape: dimensions.iter().map(fixed).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// y = x·w, in two nodes.
    pub(in super::super) fn small() -> Onnx<'static> {
        let node = |name: &str, op: &str, inputs: [&str; 2], output: &str, attributes| Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.map(str::to_owned).to_vec(),
            outputs: vec![output.to_owned()],
            attributes,
        };
        let constant = |name: &str, kind, shape: &[usize], bytes| Constant {
            name: name.to_owned(),
            kind,
            shape: shape.to_vec(),
            data: Data::Here(Cow::Owned(bytes)),
        };
        let port = |name: &str, shape: &[usize]| Port {
            name: name.to_owned(),
            kind: Kind::F32,
            shape: shape.to_vec(),
        };
        Onnx {
            name: "small".to_owned(),
            version: "1".to_owned(),
            nodes: vec![
                node(
                    "a",
                    "Gemm",
                    ["x", "w"],
                    "h",
                    vec![
                        ("alpha".to_owned(), Attribute::Float(-0.5)),
                        ("transB".to_owned(), Attribute::Int(0)),
                    ],
                ),
                node(
                    "b",
                    "Some",
                    ["h", "s"],
                    "y",
                    vec![("axes".to_owned(), Attribute::Ints(vec![1, -1]))],
                ),
            ],
            constants: vec![
                constant(
                    "w",
                    Kind::F32,
                    &[3, 500],
                    (0..6000).map(|i| i as u8).collect(),
                ),
                constant("s", Kind::I64, &[1], vec![5, 0, 0, 0, 0, 0, 0, 0]),
            ],
            input: port("x", &[3]),
            outputs: vec![port("y", &[500])],
            metadata: vec![("classes".to_owned(), "[\"β\"]".to_owned())],
        }
    }

    #[test]
    fn a_model_is_read_as_it_was_written_and_never_half() {
        let model = small();
        let message = model.encode();
        let bytes: Vec<u8> = message.pieces().flatten().copied().collect();
        assert_eq!(Onnx::decode(&bytes).unwrap(), model);
        for end in (0..bytes.len()).step_by(7) {
            assert_ne!(Onnx::decode(&bytes[..end]).as_ref(), Some(&model), "{end}");
        }
        assert_eq!(model.fault(), None);
    }

    #[test]
    fn a_graph_that_does_not_hang_together_is_named() {
        let fault = |change: &dyn Fn(&mut Onnx<'_>)| {
            let mut model = small();
            change(&mut model);
            model.fault().unwrap()
        };
        let swapped = fault(&|model| model.nodes.swap(0, 1));
        assert_eq!(swapped, "b takes h, which is not there");
        let twice = fault(&|model| model.nodes[1].outputs = vec!["h".to_owned()]);
        assert_eq!(twice, "h is there twice");
        let short = fault(&|model| model.constants[1].shape = vec![2]);
        assert_eq!(short, "s has 8 bytes, expected 16");
        let unused = fault(&|model| model.nodes[1].inputs.truncate(1));
        assert_eq!(unused, "nothing takes s");
        let without = fault(&|model| model.outputs[0].name = "z".to_owned());
        assert_eq!(without, "the output z is not there");
    }
}
