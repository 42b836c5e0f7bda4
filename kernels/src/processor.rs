//! Which instructions the kernels use: the best that the processor has, or lesser ones on request.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The environment variable that asks for a lesser instruction set, so that each can be tested and timed on one
/// machine. Read once, when the first kernel runs.
const VARIABLE: &str = "VITRINE_CPU";

/// Instruction sets, from the least on. What a name asks for and the processor lacks is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// What every processor of its kind has: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512, with its products of bf16 where there are any.
    Avx512,
    /// AMX beside AVX-512: whatever the processor has.
    Amx,
}

impl Instructions {
    /// Their names, from the least on.
    pub const NAMES: [&'static str; 4] = ["portable", "avx2", "avx512", "amx"];

    /// What `VITRINE_CPU` asks for, or everything.
    ///
    /// # Errors
    ///
    /// A message that names the variable, what it holds and what it may hold.
    pub fn asked() -> Result<Self, String> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Self::Amx),
            Some(value) => value.to_string_lossy().parse(),
        }
    }
}

impl fmt::Display for Instructions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for Instructions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];
        let found = all.into_iter().find(|i| i.to_string() == text);
        found.ok_or_else(|| {
            let names = Self::NAMES.join(", ");
            format!("{VARIABLE} is {text:?}: expected one of {names}, or no such variable")
        })
    }
}

/// Whether instructions of this kind may be used, if the processor has them.
///
/// # Panics
///
/// When [`VARIABLE`] holds no name, which whoever starts a program asks [`Instructions::asked`] beforehand.
pub(crate) fn may_use(instructions: Instructions) -> bool {
    static LIMIT: OnceLock<Instructions> = OnceLock::new();
    let limit =
        LIMIT.get_or_init(|| Instructions::asked().unwrap_or_else(|error| panic!("{error}")));
    instructions <= *limit
}

/// Whether AVX-512F is there and may be used.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && may_use(Instructions::Avx512)
}

/// Whether AVX2 and FMA are there and may be used.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && may_use(Instructions::Avx2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_refused() {
        let all = [
            Instructions::Portable,
            Instructions::Avx2,
            Instructions::Avx512,
            Instructions::Amx,
        ];
        for (name, instructions) in Instructions::NAMES.into_iter().zip(all) {
            assert_eq!(name.parse(), Ok(instructions));
            assert_eq!(instructions.to_string(), name);
        }
        assert_eq!(
            "AVX2".parse::<Instructions>(),
            Err(
                "VITRINE_CPU is \"AVX2\": expected one of portable, avx2, avx512, amx, or no such variable"
                    .to_owned()
            )
        );
    }
}
