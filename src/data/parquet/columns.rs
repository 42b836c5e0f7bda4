//! Which columns of a table hold the pictures and the labels.

use std::collections::HashMap;
use std::path::Path;

use ::parquet::basic::{ConvertedType, LogicalType, Type};
use ::parquet::file::metadata::FileMetaData;
use ::parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use crate::data::error::DataError;

/// Names by which the pictures are known, in this order.
const IMAGE_COLUMNS: [&str; 2] = ["image", "img"];
/// Names of which one may stand for them.
const OTHER_IMAGES: [&str; 8] = [
    "pixel_values",
    "picture",
    "photo",
    "jpg",
    "jpeg",
    "png",
    "image_bytes",
    "img_bytes",
];
/// Names by which the labels are known, in this order.
const LABEL_COLUMNS: [&str; 3] = ["label", "labels", "fine_label"];
/// Names of which one may stand for them.
const OTHER_LABELS: [&str; 7] = [
    "class",
    "target",
    "category",
    "class_label",
    "class_name",
    "cls",
    "coarse_label",
];

/// The columns that are used.
pub(super) struct Columns {
    /// Index of the pictures' bytes.
    pub image: usize,
    /// Index of the files' paths that lie beside them.
    pub path: Option<usize>,
    /// Index of the labels.
    pub label: usize,
    /// The name of the labels' column.
    pub label_name: String,
    /// Class names that the metadata has.
    pub classes: Option<Vec<String>>,
}

/// What a column holds, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Bytes,
    Text,
    Integers,
    Floats,
    Flags,
    Lists,
    Other,
}

impl Kind {
    fn of(column: &ColumnDescriptor) -> Kind {
        // A row would have several pictures or labels.
        if column.max_rep_level() > 0 {
            return Kind::Lists;
        }
        let is_text = matches!(
            column.logical_type_ref(),
            Some(LogicalType::String | LogicalType::Enum | LogicalType::Json)
        ) || matches!(
            column.converted_type(),
            ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
        );
        match column.physical_type() {
            Type::BYTE_ARRAY if is_text => Kind::Text,
            Type::BYTE_ARRAY => Kind::Bytes,
            Type::INT32 | Type::INT64 => Kind::Integers,
            Type::FLOAT | Type::DOUBLE => Kind::Floats,
            Type::BOOLEAN => Kind::Flags,
            _ => Kind::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Bytes => "bytes",
            Kind::Text => "text",
            Kind::Integers => "integers",
            Kind::Floats => "floating-point numbers",
            Kind::Flags => "true or false",
            Kind::Lists => "lists",
            Kind::Other => "another type",
        }
    }
}

struct Leaf {
    name: String,
    kind: Kind,
}

/// The columns in their order, and the first of each name and kind.
struct Leaves {
    all: Vec<Leaf>,
    first: HashMap<(String, Kind), usize>,
}

impl Leaves {
    fn of(all: Vec<Leaf>) -> Leaves {
        let mut first = HashMap::new();
        for (index, leaf) in all.iter().enumerate() {
            let key = (leaf.name.clone(), leaf.kind);
            first.entry(key).or_insert(index);
        }
        Leaves { all, first }
    }

    /// The first column of this name that is of one of these kinds.
    fn position(&self, name: &str, kinds: &[Kind]) -> Option<usize> {
        let of = |&kind: &Kind| self.first.get(&(name.to_owned(), kind)).copied();
        kinds.iter().filter_map(of).min()
    }
}

/// Finds the columns of a table.
///
/// # Errors
///
/// [`DataError::Corrupt`] where one is missing, or several may be meant.
pub(super) fn find(path: &Path, metadata: &FileMetaData) -> Result<Columns, DataError> {
    let schema = metadata.schema_descr();
    let leaves = (0..schema.num_columns())
        .map(|index| schema.column(index))
        .map(|column| Leaf {
            name: column.path().string(),
            kind: Kind::of(&column),
        })
        .collect();
    let leaves = Leaves::of(leaves);
    let features = features(metadata);
    let refused = |reason: String| DataError::corrupt(path, reason);
    let image = image(&leaves, &of_type(&features, "Image")).map_err(refused)?;
    let label = label(&leaves, &of_type(&features, "ClassLabel")).map_err(refused)?;
    let (Some(image), Some(label)) = (image, label) else {
        return Err(refused(missing(&leaves.all, image.is_none())));
    };
    let label_name = leaves.all[label].name.clone();
    let names = features[&label_name]["names"].as_array();
    let classes = names.map(|names| {
        let names = names.iter().filter_map(Value::as_str);
        names.map(String::from).collect()
    });
    let beside = leaves.all[image].name.strip_suffix(".bytes");
    let path = beside.and_then(|name| leaves.position(&format!("{name}.path"), &[Kind::Text]));
    Ok(Columns {
        image,
        path,
        label,
        label_name,
        classes,
    })
}

/// The features by which the hub describes the columns.
fn features(metadata: &FileMetaData) -> Value {
    metadata
        .key_value_metadata()
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface"))
        .and_then(|pair| serde_json::from_str::<Value>(pair.value.as_deref()?).ok())
        .map(|value| value["info"]["features"].clone())
        .unwrap_or_default()
}

/// The columns that the hub calls `kind`.
fn of_type(features: &Value, kind: &str) -> Vec<String> {
    let all = features.as_object().into_iter().flatten();
    all.filter(|(_, feature)| feature["_type"] == kind)
        .map(|(name, _)| name.clone())
        .collect()
}

fn image(leaves: &Leaves, described: &[String]) -> Result<Option<usize>, String> {
    let bytes = |name: &str| {
        leaves
            .position(&format!("{name}.bytes"), &[Kind::Bytes])
            .or_else(|| leaves.position(name, &[Kind::Bytes]))
    };
    if let Some(found) = IMAGE_COLUMNS.iter().find_map(|name| bytes(name)) {
        return Ok(Some(found));
    }
    let described: Vec<usize> = described.iter().filter_map(|name| bytes(name)).collect();
    let usual: Vec<usize> = OTHER_IMAGES.iter().filter_map(|name| bytes(name)).collect();
    let structs = leaves.all.iter().filter_map(|leaf| {
        let name = leaf.name.strip_suffix(".bytes")?;
        let path = leaves.position(&format!("{name}.path"), &[Kind::Text]);
        path.and_then(|_| bytes(name))
    });
    only(
        [described, usual, structs.collect()],
        &leaves.all,
        "the pictures",
        "image",
    )
}

fn label(leaves: &Leaves, described: &[String]) -> Result<Option<usize>, String> {
    let usable = [
        Kind::Integers,
        Kind::Text,
        Kind::Bytes,
        Kind::Flags,
        Kind::Floats,
    ];
    let label = |name: &str| leaves.position(name, &usable);
    if let Some(found) = LABEL_COLUMNS.iter().find_map(|name| label(name)) {
        return Ok(Some(found));
    }
    let described = described.iter().filter_map(|name| label(name)).collect();
    let usual = OTHER_LABELS.iter().filter_map(|name| label(name)).collect();
    only(
        [described, usual, Vec::new()],
        &leaves.all,
        "the labels",
        "label",
    )
}

/// The only column of the first list that has one.
fn only(
    lists: [Vec<usize>; 3],
    leaves: &[Leaf],
    what: &str,
    name: &str,
) -> Result<Option<usize>, String> {
    match lists
        .iter()
        .find(|list| !list.is_empty())
        .map(Vec::as_slice)
    {
        None => Ok(None),
        Some([one]) => Ok(Some(*one)),
        Some(several) => {
            let names: Vec<&str> = several
                .iter()
                .map(|&index| leaves[index].name.as_str())
                .collect();
            Err(format!(
                "the columns {} may each hold {what}; write the table with the one that is meant called {name}",
                names.join(" and ")
            ))
        }
    }
}

fn missing(leaves: &[Leaf], image: bool) -> String {
    /// A table of features has thousands of columns.
    const SHOWN: usize = 20;
    let mut found: Vec<String> = leaves
        .iter()
        .take(SHOWN)
        .map(|leaf| format!("{} ({})", leaf.name, leaf.kind.name()))
        .collect();
    if leaves.len() > SHOWN {
        found.push(format!("{} more", leaves.len() - SHOWN));
    }
    let is_image = |leaf: &&Leaf| {
        let top = leaf.name.split('.').next().unwrap_or_default();
        IMAGE_COLUMNS.contains(&top.trim_end_matches('s')) || OTHER_IMAGES.contains(&top)
    };
    let why = match leaves.iter().find(is_image).map(|leaf| leaf.kind) {
        Some(Kind::Lists) if image => "; lists, of pictures or of pixels, are not read",
        Some(Kind::Text) if image => "; paths of pictures are not followed",
        _ => "",
    };
    format!(
        "found the columns {}; expected pictures in {} (bytes, or a struct of bytes and path) and class numbers or names in {}{why}",
        found.join(", "),
        IMAGE_COLUMNS.join(" or "),
        LABEL_COLUMNS.join(" or "),
    )
}
