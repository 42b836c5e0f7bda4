//! What a tensor of ours is called elsewhere: tables of names, read in both directions.

/// A layer or a tensor of ours, and what it is called in another layout.
///
/// `#` stands for the number of a block. `*` stands for the last word of a layer's tensor, `weight`
/// or `bias`; a name without one is a tensor by itself. `{a,b}` are layers of the same inputs whose
/// outputs lie side by side in ours. Several names are spellings of several versions: the first one
/// is written. A `/` in front stands for a name that no prefix stands before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub ours: &'static str,
    pub theirs: &'static [&'static str],
}

/// A table of names, and how it counts blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub names: &'static [Name],
    pub number: fn(usize) -> String,
}

/// Shorthand for a row of a table.
pub(super) const fn name(ours: &'static str, theirs: &'static [&'static str]) -> Name {
    Name { ours, theirs }
}

impl Names {
    /// The spellings of a tensor of ours, each a list of tensors whose outputs lie side by side;
    /// `path` is without the name of the network. `None` where the layout has none.
    pub(super) fn of(&self, path: &str) -> Option<Vec<Vec<String>>> {
        let mut block = None;
        let words = path.split('.').map(|word| match word.parse::<usize>() {
            Ok(number) if block.is_none() => {
                block = Some(number);
                "#"
            }
            _ => word,
        });
        let words: Vec<&str> = words.collect();
        let whole = words.join(".");
        let (last, layer) = words.split_last()?;
        let layer = layer.join(".");
        let found = self
            .names
            .iter()
            .find(|name| name.ours == whole || name.ours == layer)?;
        let leaf = match *last {
            "gamma" => "weight",
            "beta" => "bias",
            other => other,
        };
        let number = block.map(self.number).unwrap_or_default();
        let spelled = |theirs: &&str| {
            let name = theirs.replace('#', &number).replace('*', leaf);
            match name.split_once('{').zip(name.split_once('}')) {
                None => vec![name],
                Some(((before, _), (within, after))) => {
                    let parts = within[before.len() + 1..].split(',');
                    parts.map(|part| format!("{before}{part}{after}")).collect()
                }
            }
        };
        Some(found.theirs.iter().map(spelled).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_filled_in() {
        const TABLE: &[Name] = &[
            name(
                "blocks.#.attention.qkv",
                &["layer.#.{query,key}.*", "l.#.qk_*"],
            ),
            name("blocks.#.scale", &["layer.#.ls.gamma"]),
        ];
        let names = Names {
            names: TABLE,
            number: |block| (block + 1).to_string(),
        };
        let found = names.of("blocks.11.attention.qkv.bias").unwrap();
        assert_eq!(found[0], ["layer.12.query.bias", "layer.12.key.bias"]);
        assert_eq!(found[1], ["l.12.qk_bias"]);
        assert_eq!(names.of("blocks.0.scale").unwrap(), [["layer.1.ls.gamma"]]);
        assert_eq!(names.of("blocks.0.other.gamma"), None);
    }
}
