//! Downloads well-known data sets from their official addresses, and resumes an interrupted download.
//!
//! A file is written to `NAME.part` and renamed only when its SHA-256 is the published one. Nothing else in the program
//! downloads data.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::DataError;
use crate::stop::Stop;
use crate::transfer::{self, TransferError};
use crate::whole_file;

/// The file in the folder of a data set by which it is held while it is downloaded.
const LOCK: &str = ".vitrine-download";

/// A data set that can be downloaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Its name on the command line, and that of the folder it is written to.
    pub name: &'static str,
    /// What its pictures show, in one line.
    pub summary: &'static str,
    /// URL of the folder with its files.
    pub base_url: &'static str,
    files: &'static [Remote],
}

impl Known {
    /// Size of all its files, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

#[derive(Clone, Copy, Debug)]
struct Remote {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

const KNOWN: [Known; 4] = [
    Known {
        name: "cifar10",
        summary: "60,000 colour photographs of 32×32, 10 classes",
        base_url: "https://www.cs.toronto.edu/~kriz",
        files: &[Remote {
            name: "cifar-10-binary.tar.gz",
            bytes: 170_052_171,
            sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        }],
    },
    Known {
        name: "cifar100",
        summary: "60,000 colour photographs of 32×32, 100 classes",
        base_url: "https://www.cs.toronto.edu/~kriz",
        files: &[Remote {
            name: "cifar-100-binary.tar.gz",
            bytes: 168_513_733,
            sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        }],
    },
    Known {
        name: "mnist",
        summary: "70,000 handwritten digits of 28×28, grey, 10 classes",
        base_url: "https://storage.googleapis.com/cvdf-datasets/mnist",
        files: &[
            Remote {
                name: "train-images-idx3-ubyte.gz",
                bytes: 9_912_422,
                sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            },
            Remote {
                name: "train-labels-idx1-ubyte.gz",
                bytes: 28_881,
                sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            },
            Remote {
                name: "t10k-images-idx3-ubyte.gz",
                bytes: 1_648_877,
                sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            },
            Remote {
                name: "t10k-labels-idx1-ubyte.gz",
                bytes: 4_542,
                sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
        ],
    },
    Known {
        name: "fashion-mnist",
        summary: "70,000 pieces of clothing of 28×28, grey, 10 classes",
        base_url: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        files: &[
            Remote {
                name: "train-images-idx3-ubyte.gz",
                bytes: 26_421_880,
                sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            },
            Remote {
                name: "train-labels-idx1-ubyte.gz",
                bytes: 29_515,
                sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            },
            Remote {
                name: "t10k-images-idx3-ubyte.gz",
                bytes: 4_422_102,
                sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            },
            Remote {
                name: "t10k-labels-idx1-ubyte.gz",
                bytes: 5_148,
                sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            },
        ],
    },
];

/// The data sets that [`download`] knows.
pub(crate) fn known_datasets() -> &'static [Known] {
    &KNOWN
}

/// Downloads the data set `which` into a folder of its name under `dest`, and returns that folder, ready to be opened.
///
/// Files already there are checked and kept; an incomplete one is resumed. `base_url` is a mirror to use instead of the
/// official address. `progress` is called with the bytes that have arrived and the bytes expected, of all files together.
///
/// # Errors
///
/// [`DataError::UnknownDataset`]; [`DataError::Download`] when the server cannot be reached, refuses, or the transfer
/// breaks off (what has arrived stays); [`DataError::Busy`] while another process downloads it to the same place;
/// [`DataError::Io`]; [`DataError::Checksum`] when a file is not the published one.
pub(crate) fn download(
    which: &str,
    base_url: Option<&str>,
    dest: &Path,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<PathBuf, DataError> {
    let known = KNOWN
        .iter()
        .find(|known| known.name == which)
        .ok_or_else(|| DataError::UnknownDataset {
            name: which.into(),
            known: KNOWN.iter().map(|known| known.name.into()).collect(),
        })?;
    let folder = dest.join(known.name);
    fs::create_dir_all(&folder).map_err(DataError::io(&folder, "create"))?;
    let lock = folder.join(LOCK);
    let held = whole_file::hold(&lock).map_err(DataError::io(&lock, "write"))?;
    let Some(_held) = held else {
        return Err(DataError::Busy { path: folder });
    };
    let base = base_url.unwrap_or(known.base_url).trim_end_matches('/');
    let mut before = 0;
    for file in known.files {
        let url = format!("{base}/{}", file.name);
        fetch(&url, file, &folder, &mut |bytes| {
            progress(before + bytes, Some(known.bytes()))
        })?;
        before += file.bytes;
    }
    // Who takes it from now on, by the old file or by a new one, finds nothing left to download.
    let _ = fs::remove_file(&lock);
    Ok(folder)
}

/// Downloads one file into `folder`.
fn fetch(
    url: &str,
    file: &Remote,
    folder: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), DataError> {
    let target = folder.join(file.name);
    let part = folder.join(format!("{}.part", file.name));
    let sha256_of = |path: &Path| transfer::sha256_of(path).map_err(DataError::io(path, "read"));
    if target.exists() && sha256_of(&target)? == file.sha256 {
        progress(file.bytes);
        return Ok(());
    }
    let there = transfer::held(&part).map_err(DataError::io(&part, "write"))?;
    // A part that is already complete needs its checksum verified, not the server.
    if there != file.bytes {
        let remote = transfer::Remote {
            url,
            authorization: None,
            bytes: Some(file.bytes),
            at_most: file.bytes,
        };
        transfer::fetch(&remote, &part, &Stop::default(), progress)
            .map_err(|error| failed(url, &part, error))?;
    }
    let found = sha256_of(&part)?;
    if found != file.sha256 {
        fs::remove_file(&part).map_err(DataError::io(&part, "remove"))?;
        return Err(DataError::Checksum {
            url: url.into(),
            found,
            expected: file.sha256.into(),
        });
    }
    whole_file::rename(&part, &target).map_err(DataError::io(&target, "write"))
}

fn failed(url: &str, part: &Path, error: TransferError) -> DataError {
    let next = match error {
        TransferError::Unreachable(_) => "check the connection, or name a mirror",
        TransferError::Refused { .. } => "try again later, or name a mirror",
        TransferError::BrokeOff { .. } => "the same command continues from there",
        TransferError::File(error) => return DataError::io(part, "write")(error),
        TransferError::Stopped => return DataError::Stopped,
    };
    DataError::Download {
        url: url.into(),
        reason: format!("{error}; {next}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    const SUM: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    /// `abc`, whose SHA-256 the standard gives.
    const ABC: Remote = Remote {
        name: "abc.bin",
        bytes: 3,
        sha256: SUM,
    };

    /// Answers one connection after another with the given bytes, and returns the requests.
    fn serve(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/abc.bin", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                    request.push(byte[0]);
                }
                asked.push(String::from_utf8(request).unwrap().to_lowercase());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (url, server)
    }

    fn answer(status: &str, headers: &str, length: usize, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n{body}"
        )
    }

    #[test]
    fn a_whole_file_takes_its_name_and_is_not_fetched_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (url, server) = serve(vec![answer("200 OK", "", 3, "abc")]);
        let mut told = Vec::new();
        fetch(&url, &ABC, folder.path(), &mut |bytes| told.push(bytes)).unwrap();
        assert!(!server.join().unwrap()[0].contains("range:"));
        assert_eq!(told, [0, 3]);
        assert_eq!(fs::read(folder.path().join("abc.bin")).unwrap(), b"abc");
        assert!(!folder.path().join("abc.bin.part").exists());
        fetch("http://127.0.0.1:1/none", &ABC, folder.path(), &mut |_| ()).unwrap();
    }

    #[test]
    fn a_broken_transfer_is_kept_and_continued() {
        let folder = tempfile::tempdir().unwrap();
        let (url, server) = serve(vec![answer("200 OK", "", 3, "a")]);
        let error = fetch(&url, &ABC, folder.path(), &mut |_| ())
            .unwrap_err()
            .to_string();
        server.join().unwrap();
        assert!(
            error.starts_with(&format!("{url}: broke off after 1 of 3 bytes (")),
            "{error}"
        );
        assert!(
            error.ends_with("); the same command continues from there"),
            "{error}"
        );
        assert_eq!(fs::read(folder.path().join("abc.bin.part")).unwrap(), b"a");

        let (url, server) = serve(vec![answer(
            "206 Partial Content",
            "content-range: bytes 1-2/3\r\n",
            2,
            "bc",
        )]);
        let mut told = Vec::new();
        fetch(&url, &ABC, folder.path(), &mut |bytes| told.push(bytes)).unwrap();
        assert!(server.join().unwrap()[0].contains("range: bytes=1-\r\n"));
        assert_eq!(told, [1, 3]);
        assert_eq!(fs::read(folder.path().join("abc.bin")).unwrap(), b"abc");
    }

    #[test]
    fn a_server_without_ranges_sends_everything_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("abc.bin.part"), "x").unwrap();
        let (url, server) = serve(vec![answer("200 OK", "", 3, "abc")]);
        fetch(&url, &ABC, folder.path(), &mut |_| ()).unwrap();
        server.join().unwrap();
        assert_eq!(fs::read(folder.path().join("abc.bin")).unwrap(), b"abc");
    }

    #[test]
    fn a_part_that_the_server_finds_too_long_starts_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("abc.bin.part"), "xy").unwrap();
        let (url, server) = serve(vec![
            answer("416 Range Not Satisfiable", "", 0, ""),
            answer("200 OK", "", 3, "abc"),
        ]);
        fetch(&url, &ABC, folder.path(), &mut |_| ()).unwrap();
        assert!(!server.join().unwrap()[1].contains("range:"));
    }

    #[test]
    fn a_part_that_is_whole_needs_no_server() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("abc.bin.part"), "abc").unwrap();
        fetch("http://127.0.0.1:1/none", &ABC, folder.path(), &mut |_| ()).unwrap();
    }

    #[test]
    fn a_wrong_checksum_is_refused_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (url, server) = serve(vec![answer("200 OK", "", 3, "xyz")]);
        let error = fetch(&url, &ABC, folder.path(), &mut |_| ())
            .unwrap_err()
            .to_string();
        server.join().unwrap();
        let xyz = "3608bca1e44ea6c4d268eb6db02260269892c0b42b86bbf1e77a6fa16c3c9282";
        assert_eq!(
            error,
            format!(
                "{url}: checksum differs: found SHA-256 {xyz}, expected {SUM}; the file was removed, try again"
            )
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(unix)]
    fn what_a_link_in_place_of_a_part_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        type MakeLink = fn(&Path, &Path) -> io::Result<()>;
        let links: [(MakeLink, &str); 2] = [
            (
                |file, link| std::os::unix::fs::symlink(file, link),
                "it is a link,",
            ),
            (|file, link| fs::hard_link(file, link), "it is a hard link,"),
        ];
        for (link, said) in links {
            fs::write(at("other"), "precious").unwrap();
            link(&at("other"), &at("abc.bin.part")).unwrap();
            let error = fetch("http://127.0.0.1:1/none", &ABC, folder.path(), &mut |_| ());
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("abc.bin.part: cannot write: ") && error.contains(said),
                "{error}"
            );
            assert_eq!(fs::read(at("other")).unwrap(), b"precious");
            fs::remove_file(at("abc.bin.part")).unwrap();
        }
    }

    #[test]
    fn two_downloads_do_not_write_one_part() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("mnist");
        fs::create_dir(&there).unwrap();
        let held = whole_file::hold(&there.join(LOCK)).unwrap();
        let download = || {
            let base = Some("http://127.0.0.1:1");
            download("mnist", base, folder.path(), &mut |_, _| ()).unwrap_err()
        };
        assert_eq!(
            download().to_string(),
            format!(
                "{}: another process downloads into it: wait for it, or stop it",
                there.display()
            )
        );
        drop(held);
        assert!(download().to_string().contains("cannot be reached"));
    }

    #[test]
    fn a_refusal_and_an_absent_server_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let (url, server) = serve(vec![answer("404 Not Found", "", 4, "none")]);
        let base = url.strip_suffix("/abc.bin").unwrap();
        let error = download("cifar10", Some(base), folder.path(), &mut |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(server.join().unwrap()[0].starts_with("get /cifar-10-binary.tar.gz http/1.1\r\n"));
        assert_eq!(
            error,
            format!(
                "{base}/cifar-10-binary.tar.gz: the server answered 404 Not Found; try again later, or name a mirror"
            )
        );
        // The port of a listener that is gone refuses.
        let error = fetch(&url, &ABC, folder.path(), &mut |_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("{url}: cannot be reached: ")),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known() {
        let error = download("imagenet", None, Path::new("."), &mut |_, _| ())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "unknown data set \"imagenet\"; known are cifar10, cifar100, mnist, fashion-mnist"
        );
    }

    #[test]
    fn checksums_are_whole() {
        let is_sum = |sum: &str| {
            sum.len() == 64 && sum.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
        };
        assert!(
            known_datasets()
                .iter()
                .flat_map(|known| known.files)
                .all(|file| is_sum(file.sha256))
        );
    }
}
