//! The memory that decoding takes is bounded by what a picture's header says: every allocation is counted.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use vitrine::data::{DecodeLimits, RawPicture, decode};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What decoding says, and the most memory it took, in MiB.
fn decoded(bytes: &[u8]) -> (Result<(u32, u32), String>, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let picture = decode(
        &RawPicture::Encoded(Cow::Borrowed(bytes)),
        &DecodeLimits::default(),
    );
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let answer = picture
        .map(|picture| picture.dimensions())
        .map_err(|error| error.to_string());
    (answer, peak >> 20)
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(name);
    checksum.update(data);
    [
        &(data.len() as u32).to_be_bytes(),
        name.as_slice(),
        data,
        &checksum.sum().to_be_bytes(),
    ]
    .concat()
}

/// Zeros, compressed a thousandfold.
fn bomb(mib: usize) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    for _ in 0..mib {
        packed.write_all(&[0; 1 << 20]).unwrap();
    }
    packed.finish().unwrap()
}

fn png(width: u32, height: u32, extra: &[u8], pixels: &[u8]) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    [
        b"\x89PNG\r\n\x1a\n",
        &chunk(b"IHDR", &[&size[..], &[8, 2, 0, 0, 0]].concat())[..],
        extra,
        &chunk(b"IDAT", pixels),
        &chunk(b"IEND", &[]),
    ]
    .concat()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A TIFF of one strip; a tag that is given twice counts as given last.
fn tiff(tags: &[(u16, u32)], strip: &[u8]) -> Vec<u8> {
    let usual = [
        (256, 8),
        (257, 8),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 8),
    ];
    let length = (279, strip.len() as u32);
    let all: std::collections::BTreeMap<u16, u32> = usual
        .into_iter()
        .chain([length])
        .chain(tags.iter().copied())
        .collect();
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((8 + strip.len() as u32).to_le_bytes());
    bytes.extend(strip);
    bytes.extend((all.len() as u16).to_le_bytes());
    for (tag, value) in all {
        bytes.extend(tag.to_le_bytes());
        bytes.extend([4, 0, 1, 0, 0, 0]);
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes
}

/// The beginning of a PNG.
fn png_header(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let mut png = png(width, height, &[], &zlib(&[0; 100]));
    png[24..26].copy_from_slice(&[bits, colour]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    png
}

/// A BigTIFF of 2 MiB whose first directory leads to 256 others that overlap, of nearly 100,000 entries each.
fn directories_within_each_other() -> Vec<u8> {
    const ENTRIES: u64 = 100_000;
    let entry = |tag: u16, count: u64, value: u64| {
        let mut entry = [tag, 16].map(u16::to_le_bytes).concat();
        entry.extend(count.to_le_bytes());
        entry.extend(value.to_le_bytes());
        entry
    };
    let mut bytes = b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0".to_vec();
    bytes.extend((ENTRIES + 1).to_le_bytes());
    let first = bytes.len() as u64;
    let list = first + 20 * (ENTRIES + 1) + 8;
    bytes.extend(entry(330, 256, list));
    for index in 0..ENTRIES {
        // The value is the number of entries of the directory that begins with it.
        bytes.extend(entry(60_000, 1, ENTRIES - index - 1));
    }
    bytes.extend([0; 8]);
    bytes.extend((0..256).flat_map(|index| (first + 20 * (index + 1) + 12).to_le_bytes()));
    bytes
}

/// One test, since all threads share the count.
#[test]
fn what_a_small_header_says_is_all_that_is_taken() {
    let bomb = bomb(200);
    let pixels = zlib(&[0; 4 * 13]);
    let profile = chunk(b"iCCP", &[b"x\0\0", &bomb[..]].concat());
    let texts = [
        chunk(b"zTXt", &[b"x\0\0", &bomb[..]].concat()),
        chunk(b"iTXt", &[b"x\0\x01\0\0\0", &bomb[..]].concat()),
    ];
    let whole = png(4, 4, &profile, &pixels);
    let entry = [
        &b"\0\0\x01\0\x01\0\x04\x04\0\0\x01\0\x20\0"[..],
        &(whole.len() as u32).to_le_bytes(),
        &22u32.to_le_bytes(),
    ]
    .concat();
    let icon = [&entry[..], &whole].concat();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut jpeg)
        .encode_image(&image::GrayImage::new(8, 8))
        .unwrap();
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x0f, 0x27, 0x0f]);

    let mut gif = b"GIF89a\x01\0\x01\0\0\0\0\x2c\0\0\0\0".to_vec();
    gif.extend(b"\xff\xff\xff\xff\0\x02\x02\x44\x01\0\x3b");

    let small = 16;
    for (name, bytes, is_read) in [
        ("profile", &whole, true),
        ("text", &png(4, 4, &texts[0], &pixels), true),
        ("international text", &png(4, 4, &texts[1], &pixels), true),
        ("pixels", &png(4, 4, &[], &bomb), true),
        ("icon", &icon, false),
        ("strip", &tiff(&[(259, 8)], &bomb), true),
        (
            "tile",
            &tiff(&[(322, 1 << 31), (323, 16), (324, 8), (325, 9)], &[0; 64]),
            false,
        ),
        ("JPEG in a strip", &tiff(&[(259, 7)], &jpeg), false),
        ("samples", &tiff(&[(277, u32::MAX)], &[0; 64]), false),
        ("directories", &directories_within_each_other(), false),
        ("a frame larger than the canvas", &gif, false),
    ] {
        let (answer, peak) = decoded(bytes);
        assert_eq!(answer.is_ok(), is_read, "{name}: {answer:?}");
        assert!(peak < small, "{name}: {peak} MiB ({answer:?})");
    }

    // Together, too, they take no more than there is for all: each of these states 750 MiB.
    let large = png_header(9900, 9900, 16, 6);
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| decoded(&large).0.unwrap_err());
        }
    });
    let peak = (PEAK.load(Ordering::Relaxed) - before) >> 20;
    assert!(peak <= 2048 + 16, "sixteen at once: {peak} MiB");
}
