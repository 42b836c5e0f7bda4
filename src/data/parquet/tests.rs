use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::table::guarded;
use crate::data::listing::SourceKind;
use crate::data::sample::{RawPicture, SplitName};
use crate::data::source::Dataset;

const HUB: &str = r#"{"info": {"features": {"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}"#;

/// Row groups of rows, each a picture's bytes (or none) and a label.
fn write(path: &Path, groups: &[&[(Option<&str>, i64)]], hub: bool) {
    let schema = "message schema { optional group img { optional binary bytes; optional binary path (UTF8); } optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let pairs = hub.then(|| vec![KeyValue::new("huggingface".into(), HUB.to_string())]);
    let properties = WriterProperties::builder()
        .set_key_value_metadata(pairs)
        .build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties))
            .unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let levels: Vec<i16> = rows
            .iter()
            .map(|(bytes, _)| if bytes.is_some() { 2 } else { 1 })
            .collect();
        let pictures: Vec<ByteArray> = rows
            .iter()
            .filter_map(|(bytes, _)| bytes.map(ByteArray::from))
            .collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&pictures, Some(&levels), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[], Some(&vec![1; rows.len()]), None)
            .unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&labels, Some(&vec![1; rows.len()]), None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const TRAIN: [&[(Option<&str>, i64)]; 2] = [
    &[(Some("one"), 1), (None, 0)],
    &[(Some("two"), 0), (Some("none"), -1), (Some("three"), 1)],
];

#[test]
fn the_hubs_files_open_with_their_splits_and_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    write(
        &folder.path().join("data/train-00000-of-00001.parquet"),
        &TRAIN,
        true,
    );
    write(
        &folder.path().join("data/test-00000-of-00001.parquet"),
        &TRAIN[..1],
        true,
    );
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.kind, SourceKind::Parquet);
    assert_eq!(dataset.classes, ["cat", "dog"]);
    let train = dataset.given(SplitName::Train);
    assert_eq!(
        train.iter().map(|sample| sample.label).collect::<Vec<_>>(),
        [1, 0, 0, 1]
    );
    assert_eq!(train[3].name, "data/train-00000-of-00001.parquet#4");
    assert_eq!(dataset.given(SplitName::Test).len(), 2);
    let read = |index: usize| match dataset.read(&train[index]) {
        Ok(RawPicture::Encoded(bytes)) => String::from_utf8(bytes.into_owned()).unwrap(),
        other => {
            format!("{}", other.unwrap_err()).replace(&folder.path().display().to_string(), "DIR")
        }
    };
    assert_eq!(read(3), "three");
    assert_eq!(read(0), "one");
    assert_eq!(read(2), "two");
    assert_eq!(
        read(1),
        "DIR/data/train-00000-of-00001.parquet: row 1 has no picture"
    );
    assert_eq!(dataset.skipped[0].reason, "1 rows without a label");
}

#[test]
fn without_names_the_labels_are_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    write(&path, &TRAIN, false);
    let dataset = Dataset::open(&path).unwrap();
    assert_eq!(
        (dataset.name.as_str(), &dataset.classes[..]),
        ("pets", &["0".to_string(), "1".to_string()][..])
    );
    assert_eq!(dataset.given(SplitName::Train)[0].name, "pets.parquet#0");
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    let message = || {
        let error = Dataset::open(&path).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    };
    write(&path, &TRAIN, true);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let found = message();
    assert!(
        found.starts_with("DIR/pets.parquet: truncated or damaged Parquet file: "),
        "{found}"
    );
    assert!(found.ends_with("; fetch it again"), "{found}");
    write(&path, &[&[(Some("one"), 0), (Some("two"), 7)]], true);
    assert_eq!(
        message(),
        "DIR/pets.parquet: label 7 found, expected less than 2, the class names given"
    );
    write(&path, &[&[(Some("one"), 0), (Some("two"), 1 << 40)]], false);
    assert_eq!(
        message(),
        "DIR/pets.parquet: label 1099511627776 found, expected class numbers below 100000"
    );
}

/// The values of a column of one row group.
enum Column<'a> {
    Text(&'a [Option<&'a str>]),
    Numbers(&'a [Option<i64>]),
    Floats(&'a [Option<f64>]),
    Flags(&'a [Option<bool>]),
}

/// Writes a table of one row group: its schema, features as the hub describes them, and columns, of which each value is
/// optional.
fn write_columns(path: &Path, schema: &str, features: &str, columns: &[Column<'_>]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {schema} }}")).unwrap());
    let deepest: Vec<i16> = (0..columns.len())
        .map(|index| {
            ::parquet::schema::types::SchemaDescriptor::new(Arc::clone(&schema))
                .column(index)
                .max_def_level()
        })
        .collect();
    let hub = format!(r#"{{"info": {{"features": {{{features}}}}}}}"#);
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".into(), hub)]))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (values, deepest) in columns.iter().zip(deepest) {
        let mut column = group.next_column().unwrap().unwrap();
        macro_rules! write {
            ($kind:ty, $values:expr, $convert:expr) => {{
                let level = |value: &Option<_>| {
                    if value.is_some() {
                        deepest
                    } else {
                        deepest - 1
                    }
                };
                let levels: Vec<i16> = $values.iter().map(level).collect();
                let present: Vec<_> = $values.iter().copied().flatten().map($convert).collect();
                let column = column.typed::<$kind>();
                column.write_batch(&present, Some(&levels), None).unwrap();
            }};
        }
        match values {
            Column::Text(values) => write!(ByteArrayType, values, ByteArray::from),
            Column::Numbers(values) => write!(Int64Type, values, |value| value),
            Column::Floats(values) => write!(DoubleType, values, |value| value),
            Column::Flags(values) => write!(BoolType, values, |value| value),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

const IMAGE: &str = "optional group image { optional binary bytes; optional binary path (UTF8); }";
const PICTURES: Column<'_> = Column::Text(&[Some("one"), Some("two"), Some("three")]);
const PATHS: Column<'_> = Column::Text(&[Some("a.png"), Some("b.png"), None]);

/// The classes, and the label of each training picture; or the error.
fn opened(path: &Path) -> Result<(Vec<String>, Vec<usize>), String> {
    let dataset = Dataset::open(path).map_err(|error| {
        let folder = path.parent().unwrap().display().to_string();
        error.to_string().replace(&folder, "DIR")
    })?;
    let train = dataset.given(SplitName::Train);
    let labels = train.iter().map(|sample| sample.label).collect();
    Ok((dataset.classes, labels))
}

#[test]
fn labels_may_be_names_flags_whole_floats_and_sparse_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    let check = |label: &str, column: Column<'_>, classes: [&str; 2], labels: &[usize]| {
        let schema = format!("{IMAGE} optional {label};");
        write_columns(&path, &schema, "", &[PICTURES, PATHS, column]);
        let classes = classes.map(String::from).to_vec();
        assert_eq!(opened(&path), Ok((classes, labels.to_vec())), "{label}");
    };
    let names = [Some("dog"), Some("cat"), Some("")];
    check(
        "binary label (UTF8)",
        Column::Text(&names),
        ["cat", "dog"],
        &[1, 0],
    );
    check(
        "binary class",
        Column::Text(&names),
        ["cat", "dog"],
        &[1, 0],
    );
    let flags = [Some(true), Some(false), None];
    check(
        "boolean label",
        Column::Flags(&flags),
        ["false", "true"],
        &[1, 0],
    );
    let floats = [Some(2.0), Some(f64::NAN), Some(1.0)];
    check(
        "double target",
        Column::Floats(&floats),
        ["1", "2"],
        &[1, 0],
    );
    let numbers = [Some(7), Some(-1), Some(5)];
    check(
        "int64 labels",
        Column::Numbers(&numbers),
        ["5", "7"],
        &[1, 0],
    );
    let schema = format!("{IMAGE} optional double label;");
    let floats = Column::Floats(&[Some(1.0), Some(0.5), None]);
    write_columns(&path, &schema, "", &[PICTURES, PATHS, floats]);
    let expected = "DIR/pets.parquet: column label holds the number 0.5 in row 1, expected class numbers or names";
    assert_eq!(opened(&path), Err(expected.into()));
}

#[test]
fn columns_are_found_by_name_and_by_the_hubs_description() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    let labels = || Column::Numbers(&[Some(0), Some(1), Some(1)]);
    let other = || Column::Numbers(&[Some(1), Some(0), Some(0)]);
    let named = r#""kind": {"_type": "ClassLabel", "names": ["cat", "dog"]}"#;
    let both = r#""kind": {"_type": "ClassLabel"}, "source": {"_type": "ClassLabel"}"#;
    let two = "optional int64 source; optional int64 kind;";
    let open = |schema: &str, features: &str, columns: &[Column<'_>]| {
        write_columns(&path, schema, features, columns);
        opened(&path)
    };
    let schema = format!("optional binary img; {two}");
    let cat_dog = vec!["cat".to_string(), "dog".to_string()];
    assert_eq!(
        open(&schema, named, &[PICTURES, other(), labels()]),
        Ok((cat_dog.clone(), vec![0, 1, 1]))
    );
    assert_eq!(
        open(&schema, both, &[PICTURES, other(), labels()]),
        Err("DIR/pets.parquet: the columns kind and source may each hold the labels; write the table with the one that is meant called label".into())
    );
    let schema = format!("{} {two}", IMAGE.replace("image", "scan"));
    assert_eq!(
        open(&schema, named, &[PICTURES, PATHS, other(), labels()]),
        Ok((cat_dog, vec![0, 1, 1]))
    );
    let schema = "optional binary image (UTF8); optional int64 label;";
    assert_eq!(
        open(schema, "", &[PATHS, labels()]),
        Err("DIR/pets.parquet: found the columns image (text), label (integers); expected pictures in image or img (bytes, or a struct of bytes and path) and class numbers or names in label or labels or fine_label; paths of pictures are not followed".into())
    );
}

#[test]
fn paths_without_pictures_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    let schema = format!("{IMAGE} optional int64 label;");
    let labels = Column::Numbers(&[Some(0), Some(1), Some(1)]);
    let none = Column::Text(&[None, None, None]);
    write_columns(&path, &schema, "", &[none, PATHS, labels]);
    let error = opened(&path).unwrap_err();
    let expected = "DIR/pets.parquet: it holds the path of each of its 3 pictures, such as a.png, and not the picture; ";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_test_split_is_never_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    for (name, split) in [
        ("default/partial-test/0000.parquet", SplitName::Test),
        ("pets-test.parquet", SplitName::Test),
        ("TEST.PARQUET", SplitName::Test),
        ("pets_valid.parquet", SplitName::Val),
    ] {
        let set = folder.path().join(name.replace('/', "-"));
        fs::create_dir_all(set.join(name).parent().unwrap()).unwrap();
        write(&set.join("pets-train.parquet"), &TRAIN, true);
        write(&set.join(name), &TRAIN[..1], true);
        let dataset = Dataset::open(&set).unwrap();
        assert_eq!(dataset.given(SplitName::Train).len(), 4, "{name}");
        assert_eq!(dataset.given(split).len(), 2, "{name}");
    }
}

#[test]
fn more_rows_than_a_file_can_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    let rows: Vec<(Option<&str>, i64)> = (0..70_000).map(|row| (Some("same"), row % 2)).collect();
    write(&path, &[&rows], true);
    let error = Dataset::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("Parquet file: it states 70000 rows in "),
        "{error}"
    );
}

#[test]
fn damaged_row_groups_are_said_once_for_each_of_their_rows_and_spare_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    write(&path, &TRAIN, true);
    let mut bytes = fs::read(&path).unwrap();
    // The first page's header, behind the mark at the beginning: its first field becomes a map of 2³¹ flags.
    bytes[4..11].copy_from_slice(b"\x1b\xff\xff\xff\xff\x07\x11");
    fs::write(&path, bytes).unwrap();
    let dataset = Dataset::open(&path).unwrap();
    let train = dataset.given(SplitName::Train);
    for (index, whole) in [(0, false), (1, false), (2, true), (3, true)] {
        let read = dataset.read(&train[index]);
        assert_eq!(read.is_ok(), whole, "{index}");
        if let Err(error) = read {
            let error = error.to_string();
            let expected = "pets.parquet: truncated or damaged Parquet file: a page of column img.bytes cannot be read; fetch it again";
            assert!(error.ends_with(expected), "{error}");
        }
    }
}

#[test]
fn a_page_that_the_crate_panics_on_is_an_error() {
    let error = guarded(Path::new("pets.parquet"), || -> Result<(), ParquetError> {
        panic!("as the crate does")
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "pets.parquet: truncated or damaged Parquet file: Parquet error: a page of it cannot be read; fetch it again"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_files_never_panic(place in 0usize..1500, byte: u8, cut in 100usize..3000) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pets.parquet");
        write(&path, &TRAIN, true);
        let mut bytes = fs::read(&path).unwrap();
        let place = place % bytes.len();
        bytes[place] = byte;
        bytes.truncate(cut);
        fs::write(&path, bytes).unwrap();
        if let Ok(dataset) = Dataset::open(&path) {
            for (_, sample) in dataset.samples() {
                let _ = dataset.read(sample);
            }
        }
    }
}

#[test]
fn a_text_is_no_label_however_few_bytes_its_rows_take() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.parquet");
    let text = "x".repeat(4097);
    let labels = Column::Text(&[Some("cat"), Some(&text), Some("dog")]);
    let schema = format!("{IMAGE} optional binary label (UTF8);");
    write_columns(&path, &schema, "", &[PICTURES, PATHS, labels]);
    let expected = "DIR/pets.parquet: column label holds a text of 4097 bytes in row 1, expected class numbers or names";
    assert_eq!(opened(&path), Err(expected.into()));
}
