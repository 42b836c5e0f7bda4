//! Features as tables: NumPy's format, and CSV.

use std::io::{self, Write};

use crate::checkpoint::Features;
use crate::names::cell;

/// Writes `[N, D]` as NumPy's `.npy`, format 1.0, float32 (numpy.lib.format).
///
/// # Errors
///
/// The system's.
pub fn write_npy(out: &mut impl Write, features: &Features) -> io::Result<()> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    /// The header ends where the numbers begin, at a multiple of this.
    const ALIGNED: usize = 64;
    let (n, width) = (features.about.names.len(), features.about.width);
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {width}), }}");
    let before = MAGIC.len() + size_of::<u16>();
    let length = (before + header.len() + 1).next_multiple_of(ALIGNED) - before;
    header += &" ".repeat(length - 1 - header.len());
    header.push('\n');
    out.write_all(MAGIC)?;
    out.write_all(&(length as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    features
        .values
        .iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

/// Writes one row a picture: `filename,label`, and with `with_values` its features, `f0`, `f1` and so on. A label that
/// nobody knows is empty.
///
/// # Errors
///
/// The system's.
pub fn write_csv(out: impl Write, features: &Features, with_values: bool) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let width = if with_values { features.about.width } else { 0 };
    let mut head = vec!["filename".to_owned(), "label".to_owned()];
    head.extend((0..width).map(|i| format!("f{i}")));
    writer.write_record(&head)?;
    for (index, (name, row)) in features.about.names.iter().zip(features.rows()).enumerate() {
        let label = features.labels.as_ref();
        let label = label.map_or("", |labels| &features.about.classes[labels[index]]);
        writer.write_field(&*cell(name))?;
        writer.write_field(&*cell(label))?;
        for value in &row[..width] {
            writer.write_field(value.to_string())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::checkpoint::FeaturesMeta;

    fn features() -> Features {
        Features {
            about: FeaturesMeta {
                width: 3,
                names: vec!["=a.png".into(), "b.png".into()],
                classes: vec!["cat".into()],
                ..FeaturesMeta::default()
            },
            labels: Some(vec![0, 0]),
            values: vec![0.5, -1.0, 1e-7, 0.1, 3.0, 4.0],
        }
    }

    #[test]
    fn npy_is_what_numpy_reads() {
        let mut bytes = Vec::new();
        write_npy(&mut bytes, &features()).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
        assert!(header.ends_with(" \n"));
        let (values, rest) = bytes[10 + length..].as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!((values, rest.len()), (features().values, 0));
    }

    #[test]
    fn a_row_is_name_label_and_values_that_read_back() {
        let of = |features: &Features, with_values| {
            let mut bytes = Vec::new();
            write_csv(&mut bytes, features, with_values).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(
            of(&features(), true),
            "filename,label,f0,f1,f2\n'=a.png,cat,0.5,-1,0.0000001\nb.png,cat,0.1,3,4\n"
        );
        let unlabelled = Features {
            labels: None,
            ..features()
        };
        assert_eq!(of(&unlabelled, false), "filename,label\n'=a.png,\nb.png,\n");
    }
}
