//! A recipe file, up to the configuration of its model.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitrine::recipe::Sources;

fuzz_target!(|bytes: &[u8]| {
    let path = vitrine_fuzz::file("recipe.toml", bytes);
    let sources = Sources {
        recipe: Some(path.display().to_string()),
        ..Sources::default()
    };
    if let Ok(recipe) = sources.resolve() {
        // What was accepted is written as something that is accepted.
        let path = vitrine_fuzz::file("again.toml", recipe.to_toml().as_bytes());
        let again = Sources {
            recipe: Some(path.display().to_string()),
            ..Sources::default()
        };
        assert_eq!(
            again.resolve().expect("a recipe reads what it wrote"),
            recipe
        );
    }
});
