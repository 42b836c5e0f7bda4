//! The chunks of a PNG (ISO/IEC 15948), which icons hold too.

use std::borrow::Cow;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The bytes of a PNG, or of an icon of PNGs, with its compressed profiles and texts renamed, so that no decoder unpacks
/// them: a few kilobytes may become gigabytes, and no pixel depends on them.
pub(super) fn without_profiles_and_texts(bytes: &[u8]) -> Cow<'_, [u8]> {
    let found: Vec<Chunk> = starts(bytes)
        .into_iter()
        .flat_map(|start| chunks(bytes, start))
        .filter(|chunk| {
            matches!(
                &bytes[chunk.name_at..chunk.name_at + 4],
                b"iCCP" | b"zTXt" | b"iTXt"
            )
        })
        .collect();
    if found.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut bytes = bytes.to_vec();
    for Chunk { name_at, end } in found {
        // A private chunk, which may be passed over.
        bytes[name_at..name_at + 4].copy_from_slice(b"skIp");
        let mut checksum = flate2::Crc::new();
        checksum.update(&bytes[name_at..end - 4]);
        bytes[end - 4..end].copy_from_slice(&checksum.sum().to_be_bytes());
    }
    Cow::Owned(bytes)
}

/// The EXIF data of a PNG; they may stand behind the pixels.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    let chunk =
        chunks(bytes, 0).find(|chunk| &bytes[chunk.name_at..chunk.name_at + 4] == b"eXIf")?;
    Some(&bytes[chunk.name_at + 4..chunk.end - 4])
}

/// Where the pictures begin, at their signatures.
fn starts(bytes: &[u8]) -> Vec<usize> {
    if bytes.starts_with(SIGNATURE) {
        return vec![0];
    }
    // An icon: six bytes, the last two of them the number of entries, which end with an offset.
    let count = match bytes.get(4..6) {
        Some(count) => usize::from(u16::from_le_bytes([count[0], count[1]])),
        None => 0,
    };
    (0..count)
        .map_while(|index| bytes.get(6 + index * 16 + 12..6 + index * 16 + 16))
        .map(|offset| u32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]) as usize)
        .filter(|&start| {
            bytes
                .get(start..)
                .is_some_and(|rest| rest.starts_with(SIGNATURE))
        })
        .collect()
}

struct Chunk {
    name_at: usize,
    /// Behind its checksum.
    end: usize,
}

/// The whole chunks of the picture that begins here.
fn chunks(bytes: &[u8], start: usize) -> impl Iterator<Item = Chunk> + '_ {
    let mut at = start + SIGNATURE.len();
    std::iter::from_fn(move || {
        let length = bytes.get(at..at + 4)?;
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let name_at = at + 4;
        // Behind name, data and checksum.
        let end = name_at.checked_add(length)?.checked_add(8)?;
        at = end;
        (end <= bytes.len()).then_some(Chunk { name_at, end })
    })
}
