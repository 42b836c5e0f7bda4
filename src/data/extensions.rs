//! What a file is, by its name.

use std::path::Path;

/// Extensions of picture files. Whether such a file really holds a picture shows when it is decoded.
pub(super) const EXTENSIONS: [&str; 21] = [
    "bmp", "dds", "exr", "ff", "gif", "hdr", "ico", "jfif", "jpeg", "jpg", "pam", "pbm", "pgm",
    "png", "pnm", "ppm", "qoi", "tga", "tif", "tiff", "webp",
];

/// Extensions of picture formats without a decoder here. Such files are listed as pictures too: decoding one then fails
/// with a reason, where leaving it out would go unnoticed.
pub(super) const UNREAD: [&str; 23] = [
    "arw", "avif", "cr2", "cr3", "cur", "dng", "heic", "heif", "hif", "j2k", "jp2", "jpx", "jxl",
    "nef", "orf", "pef", "pfm", "psd", "raf", "rw2", "srw", "svg", "x3f",
];

/// Extensions of files that are not opened to look for a picture. This only saves reads: their first bytes would give
/// the same answer.
pub(super) const NOT_PICTURES: [&str; 12] = [
    "csv", "db", "htm", "html", "ini", "json", "md", "py", "txt", "xml", "yaml", "yml",
];

/// Extensions of archives that are read here.
const ARCHIVES: [&str; 12] = [
    ".tar.gz",
    ".tgz",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.zst",
    ".tar.zstd",
    ".tzst",
    ".tar",
    ".zip",
];

/// Whether a file's extension is that of a picture format which is read here, in upper or lower case.
pub(crate) fn is_picture_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// The name of an archive without its folder and extension; `None` when it has no archive's extension.
pub(super) fn archive_stem(name: &str) -> Option<&str> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let lower = base.to_ascii_lowercase();
    ARCHIVES
        .iter()
        .find(|extension| lower.ends_with(*extension))
        .map(|extension| &base[..base.len() - extension.len()])
}
