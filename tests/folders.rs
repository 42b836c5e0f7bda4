//! What a folder means: classes, splits, and what lies beside them that is no data.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{Place, picture, png};

/// A model that trains in milliseconds.
const TINY: &str = "--image-size 16 --steps 2 -b 8 --device cpu --set model.depth=1 \
    --set model.embed_dim=16 --set model.num_heads=2 --set model.mlp_dim=16";

/// The classes and, for each split, the number of pictures, as `data info --json` says.
#[track_caller]
fn info(place: &Place, data: &str) -> String {
    let json = place.run(&format!("data info {data} --json")).ok().json();
    let counts: Vec<String> = json["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| format!("{} {}", count["split"].as_str().unwrap(), count["pictures"]))
        .collect();
    format!("{} {}", json["classes"], counts.join(", "))
}

#[test]
fn runs_inside_the_data_are_no_data() {
    let place = Place::new();
    place.pictures("birds", &["emu", "owl"], 10);
    place
        .run(&format!("train --data birds --out birds/emu/mine {TINY}"))
        .ok();
    place
        .run("eval birds/emu/mine --device cpu --out birds/measured")
        .ok();
    assert_eq!(info(&place, "birds"), r#"["emu","owl"] train 20"#);
    let again = place
        .run(&format!("train --data birds --out birds/second {TINY}"))
        .ok();
    let note = "note: left out emu/mine/, a run directory (and 1 more such folder)";
    assert!(again.err.lines().any(|line| line == note), "{again:#?}");
    let classified = place
        .run("classify birds/second birds --csv --topk 1 --device cpu")
        .ok();
    assert_eq!(classified.out.lines().count(), 21, "{classified:#?}");
    let said = place.run("data info birds/second");
    assert_eq!(said.code, 1, "{said:#?}");
    let found = "birds/second: not a data set: found a run directory, where the data set that it was trained on is to be named;";
    assert!(said.err.contains(found), "{said:#?}");
}

#[test]
fn a_class_may_be_called_train_and_two_readings_are_refused() {
    let place = Place::new();
    place.pictures("rail", &["tram", "train", "ferry"], 4);
    assert_eq!(info(&place, "rail"), r#"["ferry","train","tram"] train 12"#);
    let shown = place.run("data info rail").ok().out;
    assert!(
        shown.contains("note: train is a class beside ferry and tram"),
        "{shown}"
    );
    place.pictures("deep", &["tram", "ferry"], 4);
    place.pictures("deep/train", &["steam", "diesel"], 4);
    let said = place.run(&format!("train --data deep --out run {TINY}"));
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(
        said.err
            .contains("found train beside ferry and tram, which has two readings"),
        "{said:#?}"
    );
    assert!(!place.path("run").exists());
}

#[test]
fn split_folders_of_other_names_are_splits() {
    let place = Place::new();
    for set in ["training_set/training_set", "test_set/test_set"] {
        place.pictures(&format!("pets/{set}"), &["cat", "dog"], 6);
    }
    place.pictures("views/seg_train", &["ice", "sea"], 5);
    place.pictures("views/seg_val", &["ice", "sea"], 3);
    place.pictures("views", &["seg_pred"], 2);
    assert_eq!(info(&place, "pets"), r#"["cat","dog"] train 12, test 12"#);
    assert_eq!(info(&place, "views"), r#"["ice","sea"] train 10, val 6"#);
    let trained = place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    assert!(
        trained.err.contains(
            "note: training_set/training_set/ is the train split, test_set/test_set/ is the test split"
        ),
        "{trained:#?}"
    );
    assert!(trained.err.contains(" 12 test pictures"), "{trained:#?}");
}

#[test]
fn pictures_and_their_masks_are_no_classes() {
    let place = Place::new();
    place.pictures("lungs", &["images", "masks"], 3);
    let said = place.run("data info lungs");
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(
        said.err
            .contains("images and masks hold files of the same names"),
        "{said:#?}"
    );
    place.pictures("faces", &["with_mask", "without_mask"], 3);
    assert_eq!(
        info(&place, "faces"),
        r#"["with_mask","without_mask"] train 6"#
    );
}

#[test]
fn what_other_programs_leave_is_no_data() {
    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 3);
    let thumbnail = png(&picture(4, 4, 7));
    for left in [
        "@eaDir/cat/SYNOPHOTO_THUMB_M.png",
        "cat/@eaDir/00.png/SYNOPHOTO_THUMB_M.png",
        "#recycle/dog/old.png",
        "$RECYCLE.BIN/S-1/old.png",
        "__MACOSX/cat/00.png",
        ".git/1.png",
        ".ipynb_checkpoints/00-checkpoint.png",
        "dog/00.png~",
        "venv/pyvenv.cfg",
        "venv/lib/logo.png",
        "dog/Thumbs.db",
    ] {
        place.write(&format!("pets/{left}"), &thumbnail);
    }
    assert_eq!(info(&place, "pets"), r#"["cat","dog"] train 6"#);
    let shown = place.run("data info pets").ok().out;
    assert!(
        shown.contains("note: left out what other programs keep: #recycle, $RECYCLE.BIN, 00.png~, @eaDir (2 times), __MACOSX\n"),
        "{shown}"
    );
    assert!(
        shown.contains("note: left out venv/, a Python environment\n"),
        "{shown}"
    );
}

#[test]
fn verify_names_empty_classes_and_names_alike() {
    let place = Place::new();
    place.pictures("clothes", &["Hat", "hat", "rain coat", "rain_coat"], 2);
    place.folder("clothes/scarf");
    place.pictures("letters", &["A", "a"], 2);
    let letters = place.run("data verify letters").ok().out;
    assert_eq!(letters.lines().count(), 1, "{letters}");
    let said = place.run("data verify clothes").out;
    for wanted in [
        "left out  scarf/   an empty folder",
        "classes with almost the same name: Hat and hat, rain coat and rain_coat; put",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn empty_split_folders_are_named() {
    let place = Place::new();
    place.pictures("pets/train", &["cat", "dog"], 2);
    place.folder("pets/val");
    let shown = place.run("data info pets").ok().out;
    assert!(
        shown.contains("left out: val/: an empty folder\n"),
        "{shown}"
    );
}

/// Pipes, sockets and devices, and links to them: opening some of them waits for ever, and reading others never ends.
#[test]
#[cfg(unix)]
fn only_regular_files_are_read() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 10);
    place
        .run(&format!("train --data pets --out run {TINY}"))
        .ok();
    for pipe in ["pets/cat/control", "pets/dog/camera.png"] {
        let path = std::ffi::CString::new(place.path(pipe).as_os_str().as_bytes()).unwrap();
        // SAFETY: `path` is a C string.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    }
    symlink("/dev/zero", place.path("pets/cat/endless.png")).unwrap();
    symlink("camera.png", place.path("pets/dog/camera-again")).unwrap();
    let _socket = UnixListener::bind(place.path("pets/dog/socket")).unwrap();
    let left = [
        "cat/control: a named pipe; only regular files are read",
        "cat/endless.png: a link to a device; only regular files are read",
        "dog/camera-again: a link to a named pipe; only regular files are read",
        "dog/camera.png: a named pipe; only regular files are read",
        "dog/socket: a socket; only regular files are read",
    ];
    for command in [
        "data info pets",
        "data verify pets",
        "classify run pets --csv --topk 1 --device cpu",
        &format!("train --data pets --out second {TINY}"),
    ] {
        let said = place.run(command).ok();
        for line in left {
            let (name, reason) = line.split_once(": ").unwrap();
            let all = said.out.clone() + &said.err;
            assert!(
                all.contains(name) && all.contains(reason),
                "{command}: {line}: {said:#?}"
            );
        }
    }
    assert_eq!(info(&place, "pets"), r#"["cat","dog"] train 20"#);
}

#[test]
#[cfg(unix)]
fn every_folder_is_entered_once() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    place.pictures("pets", &["cat", "dog"], 3);
    // Forty folders, each with two links to the next, are 2⁴⁰ ways.
    for level in 0..40 {
        place.folder(&format!("pets/cat/{level}"));
        for link in ["left", "right"] {
            symlink(
                format!("../{}", level + 1),
                place.path(&format!("pets/cat/{level}/{link}")),
            )
            .unwrap();
        }
    }
    symlink("..", place.path("pets/dog/up")).unwrap();
    symlink("cat", place.path("pets/cats")).unwrap();
    assert_eq!(info(&place, "pets"), r#"["cat","dog"] train 6"#);
    let shown = place.run("data info pets").ok().out;
    assert!(
        shown.contains("is the folder cat/1/ once more, which is read once (so are 78 more)"),
        "{shown}"
    );
}

/// Neither is waited for: a walk through the machine takes minutes, and ends in files that the system makes up.
#[test]
#[cfg(unix)]
fn nothing_around_the_data_is_read() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    place.pictures("set/pets", &["cat", "dog"], 3);
    place.pictures("set/other", &["emu"], 3);
    symlink("/", place.path("root")).unwrap();
    for data in ["/", "root", "root/"] {
        let said = place.run(&format!("data info {data}"));
        let reason = format!(
            "error: {data}: the root of the file system, with everything on this machine; name the folder of the pictures"
        );
        assert_eq!((said.code, said.err.trim()), (1, &*reason));
    }
    let said = place.run("classify root --csv");
    assert!(
        said.code == 1 && said.out.contains("the root of the file system"),
        "{said:#?}"
    );
    symlink("/", place.path("set/pets/dog/all")).unwrap();
    symlink("../..", place.path("set/pets/dog/up")).unwrap();
    assert_eq!(info(&place, "set/pets"), r#"["cat","dog"] train 6"#);
    let shown = place.run("data info set/pets").ok().out;
    for link in ["dog/all", "dog/up"] {
        let left =
            format!("left out: {link}: a link to a folder around this one, which is not entered");
        assert!(shown.contains(&left), "{shown}");
    }
}

/// `vitrine` without the right of root to read what it may not; what it prints.
#[cfg(unix)]
#[allow(unsafe_code)]
fn run_as_anyone(place: &Place, line: &str) -> (Option<i32>, String) {
    use std::os::unix::process::CommandExt;

    // SAFETY: asks for a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    assert!(
        !is_root || cfg!(target_os = "linux"),
        "root may read everything: run this test as another user"
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vitrine"));
    command.current_dir(place.path(""));
    command.args(line.split_whitespace());
    #[cfg(target_os = "linux")]
    if is_root {
        const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
        const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
        let drop_rights = || {
            for right in [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH] {
                // SAFETY: takes a right from this process; no memory is touched.
                if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, right, 0, 0, 0) } != 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec it makes system calls alone.
        unsafe { command.pre_exec(drop_rights) };
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
#[cfg(unix)]
fn a_folder_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::new();
    place.pictures("pets", &["cat", "dog", "emu"], 3);
    let locked = place.path("pets/emu");
    let allow = |mode| fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    let shown = run_as_anyone(&place, "data info pets");
    let strict = run_as_anyone(
        &place,
        &format!("train --data pets --strict --out run {TINY}"),
    );
    allow(0o700);
    assert_eq!(shown.0, Some(0), "{}", shown.1);
    let named = "left out: emu/: cannot be read: Permission denied";
    assert!(shown.1.contains(named), "{}", shown.1);
    assert_eq!(strict.0, Some(1), "{}", strict.1);
    assert!(
        strict.1.contains("emu/: cannot be read: Permission denied"),
        "{}",
        strict.1
    );
}
