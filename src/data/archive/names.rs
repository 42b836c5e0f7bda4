//! Names of an archive's files as text, with `/` between folders.

use std::io::Cursor;

use zip::read::ZipFile;
use zip::result::ZipResult;
use zip::{ExtraField, System, ZipArchive};

use crate::names::text_of_bytes;

/// A path without `./`, and without `..` where the folder it leaves is known.
pub(super) fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match (part, parts.last()) {
            (".", _) => {}
            ("..", Some(above)) if *above != ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// A file's path within the archive: [`plain`], and no way out of it.
pub(super) fn inside(path: &str) -> String {
    let path = plain(path);
    let mut rest = path.as_str();
    while let Some(further) = rest.strip_prefix("../").or(rest.strip_prefix('/')) {
        rest = further;
    }
    rest.to_owned()
}

/// Code page 437 from 0x80 on, that of zip archives without another statement.
const CODE_PAGE_437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

fn of_code_page_437(name: &[u8]) -> String {
    let upper: Vec<char> = CODE_PAGE_437.chars().collect();
    let letter = |&byte: &u8| match byte {
        0..0x80 => char::from(byte),
        _ => upper[usize::from(byte - 0x80)],
    };
    name.iter().map(letter).collect()
}

/// A letter of ASCII as it is, another byte by its number.
fn text_of_byte(byte: u8) -> String {
    match byte {
        b'\\' => r"\\".to_owned(),
        0..0x80 => char::from(byte).to_string(),
        _ => format!(r"\x{byte:02X}"),
    }
}

/// Whether a name in code page 437 is one that somebody may have given: letters of Latin alphabets and what stands
/// beside them. Names in another page, such as those of Chinese or Russian systems, have frames, blocks and signs.
fn is_given(name: &str) -> bool {
    let is_likely =
        |c: char| c < '\u{250}' && (c.is_alphabetic() || "¡¿°²·½¼£¥¢ƒ«»\u{a0}".contains(c));
    name.chars().all(|c| c.is_ascii() || is_likely(c))
}

/// How the names in a zip archive are stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ZipNames {
    /// Whether no name has a `/`.
    are_flat: bool,
    /// Whether those that are not stated to be UTF-8 are in a code page: one of them is no UTF-8.
    have_code_page: bool,
    /// Whether that page is another one than 437: one of them would be nonsense.
    is_another_page: bool,
}

impl ZipNames {
    /// Looks at the names of all entries.
    pub(super) fn find(
        bytes: &[u8],
        archive: &mut ZipArchive<Cursor<&[u8]>>,
    ) -> ZipResult<ZipNames> {
        let mut names = ZipNames {
            are_flat: true,
            have_code_page: false,
            is_another_page: false,
        };
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index)?;
            let name = entry.name_raw();
            names.are_flat &= !name.contains(&b'/');
            if !is_stated_utf8(bytes, &entry) && !is_of_unix(&entry) {
                names.have_code_page |= std::str::from_utf8(name).is_err();
                names.is_another_page |=
                    std::str::from_utf8(name).is_err() && !is_given(&of_code_page_437(name));
            }
        }
        Ok(names)
    }

    /// Whether names that are in a code page are read as if it were 437.
    pub(super) fn are_page_437(&self) -> bool {
        !self.is_another_page
    }

    /// The name of an entry, and whether it is in a code page: which one is stored nowhere.
    pub(super) fn name(&self, bytes: &[u8], entry: &ZipFile<'_, Cursor<&[u8]>>) -> (String, bool) {
        let mut name = entry.name_raw().to_vec();
        // Windows has no `\` in the name of a file, so that one is the separator of folders; so it is where there would
        // be no folder otherwise.
        if (self.are_flat || !is_of_unix(entry)) && !name.contains(&b'/') {
            for byte in &mut name {
                if *byte == b'\\' {
                    *byte = b'/';
                }
            }
        }
        let in_code_page = self.have_code_page
            && !is_of_unix(entry)
            && !name.is_ascii()
            && !is_stated_utf8(bytes, entry);
        let text = match in_code_page {
            true if self.are_page_437() => of_code_page_437(&name),
            // What is UTF-8 among them is so by chance.
            true => name.iter().map(|byte| text_of_byte(*byte)).collect(),
            // On Unix a name is bytes.
            false => text_of_bytes(&name),
        };
        (inside(&text), in_code_page)
    }
}

fn is_of_unix(entry: &ZipFile<'_, Cursor<&[u8]>>) -> bool {
    matches!(entry.system(), System::Unix | System::OsDarwin)
}

/// Whether the entry's flags say that its name is UTF-8, or an extra field has its name in UTF-8.
fn is_stated_utf8(bytes: &[u8], entry: &ZipFile<'_, Cursor<&[u8]>>) -> bool {
    let has_field = || {
        let mut fields = entry.extra_data_fields();
        fields.any(|field| matches!(field, ExtraField::UnicodePath(_)))
    };
    let flags = || {
        let start = usize::try_from(entry.central_header_start()).ok()?;
        let header = bytes.get(start..start + 10)?;
        (header.starts_with(b"PK\x01\x02")).then(|| u16::from_le_bytes([header[8], header[9]]))
    };
    has_field() || flags().is_some_and(|flags| flags & 0x800 != 0)
}
