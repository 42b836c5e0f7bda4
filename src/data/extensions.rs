//! What a file is, by its name.

use std::path::Path;

/// Files that end so are pictures; what they hold is judged when they are decoded.
pub(super) const EXTENSIONS: [&str; 21] = [
    "bmp", "dds", "exr", "ff", "gif", "hdr", "ico", "jfif", "jpeg", "jpg", "pam", "pbm", "pgm",
    "png", "pnm", "ppm", "qoi", "tga", "tif", "tiff", "webp",
];

/// Files that end so are pictures too, of formats that are not read: whoever decodes them says so, where they would
/// otherwise be overlooked among those that are.
pub(super) const UNREAD: [&str; 6] = ["avif", "heic", "heif", "jp2", "jxl", "psd"];

/// Files that end so are not looked into. Purely to spare reads: their first bytes would say the same.
pub(super) const NOT_PICTURES: [&str; 12] = [
    "csv", "db", "htm", "html", "ini", "json", "md", "py", "txt", "xml", "yaml", "yml",
];

/// Whether a file's name is that of a picture, by its extension.
pub fn is_picture_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

/// The name of an archive without its folder and extension; `None` when it has no archive's extension.
pub(super) fn archive_stem(name: &str) -> Option<&str> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let lower = base.to_ascii_lowercase();
    [".tar.gz", ".tgz", ".tar", ".zip"]
        .iter()
        .find(|extension| lower.ends_with(*extension))
        .map(|extension| &base[..base.len() - extension.len()])
}
