//! The recipes that ship inside the binary.

/// A recipe that ships inside the binary.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(Embedded {
            name: $name,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/recipes/", $name, ".toml")),
        }),*]
    };
}

/// The recipes that ship inside the binary. `vit` and `cnn` are the families' defaults.
pub const EMBEDDED: &[Embedded] = embedded![
    "default",
    "vit",
    "cnn",
    "cifar10-vit-w1",
    "cifar10-resnet9",
    "cifar10-cnn",
    "cifar10-vit",
    "cifar10-vit-distilled",
    "fashion-mnist-vit",
    "photos"
];

impl Embedded {
    /// The recipe of this name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        EMBEDDED.iter().find(|recipe| recipe.name == name)
    }

    /// The recipe whose name is most like `name`, if one is.
    pub(super) fn near(name: &str) -> Option<&'static str> {
        let like = |recipe: &'static Self| (strsim::jaro_winkler(name, recipe.name), recipe.name);
        let nearest = EMBEDDED
            .iter()
            .map(like)
            .max_by(|a, b| a.0.total_cmp(&b.0))?;
        (nearest.0 > 0.8).then_some(nearest.1)
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        let names: Vec<_> = EMBEDDED.iter().map(|recipe| recipe.name).collect();
        names.join(", ")
    }
}
